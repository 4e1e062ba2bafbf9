# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: without_query
short_description: The name of an image, without what may be a secret
version_added: 0.1.0
author:
  - hpc.sregistry contributors (@hpc-sregistry)
description:
  - The address of a file on a web server may have a query, such as a signature that gives access to it. The query is
    no part of the name under which the inventory and a lock file know the file.
  - Names of images in a registry stay as they are.
options:
  _input:
    description:
      - The name as O(hpc.sregistry.sregistry_pull#module:name) takes it, or a list of names.
    type: raw
    required: true
"""

EXAMPLES = r"""
- name: Keep what is listed, and nothing else
  hpc.sregistry.sregistry_remove:
    keep: "{{ images | hpc.sregistry.without_query }}"
"""

RETURN = r"""
_value:
  description:
    - The name, or the names in their order. A digest at the end of an address stays.
  type: raw
"""

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

from ..plugin_utils._internal.prestage.result import without_query as hidden


def without_query(value: object) -> Any:
    """Return a name, or a list of names, without queries.

    :raises AnsibleFilterError: if it is something else.
    """
    if isinstance(value, str):
        return hidden(value)
    if isinstance(value, (list, tuple)) and all(isinstance(name, str) for name in value):
        return [hidden(name) for name in value]
    raise AnsibleFilterError(f"without_query wants a name or a list of names, not {type(value).__name__}")


class FilterModule:
    """Ansible asks this class for filters."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the one filter of this file."""
        return {"without_query": without_query}
