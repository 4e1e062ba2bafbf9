# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: name_list
short_description: Names as a list, whoever wrote them
version_added: 0.1.0
author:
  - hpc.sregistry contributors (@hpc-sregistry)
description:
  - Makes a list of names of what C(--extra-vars), the text of a survey, or a variable has. A text is a list of names
    that commas or the ends of lines separate, or a list in JSON.
  - The role P(hpc.sregistry.prestage#role) reads its lists with it.
options:
  _input:
    description:
      - A list of names, or a text. In a list, lists are taken apart, and each text is one name, except for one of
        several lines.
      - On a line that has an address of a web server with a query, commas belong to the query. Write one address a line
        there.
    type: raw
    required: true
"""

EXAMPLES = r"""
- name: Pull what was typed into the survey of a job template
  hpc.sregistry.sregistry_pull:
    name: "{{ survey_images | hpc.sregistry.name_list }}"
  vars:
    survey_images: |
      quay.io/org/solver:2.4
      quay.io/org/mesher:1.9, ubuntu:24.04
"""

RETURN = r"""
_value:
  description: The names in their order, without spaces around them, and without empty ones.
  type: list
  elements: str
"""

from collections.abc import Callable

from ansible.errors import AnsibleFilterError
from jinja2 import Undefined

from ..plugin_utils._internal.user_input.names import names_in


def name_list(value: object) -> list[str]:
    """Return the names in a list or a text.

    :raises AnsibleFilterError: if it is something else.
    :raises UndefinedError: if it is not defined, which Ansible before 2.19 leaves to filters to find out.
    """
    if isinstance(value, Undefined):
        str(value)
    try:
        return names_in(value)
    except ValueError as error:
        raise AnsibleFilterError(f"name_list {error}") from error


class FilterModule:
    """Ansible asks this class for filters."""

    def filters(self) -> dict[str, Callable[..., list[str]]]:
        """Return the one filter of this file."""
        return {"name_list": name_list}
