# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: image_path
short_description: The path of an image's file, from the facts
version_added: 0.1.0
author:
  - hpc.sregistry contributors (@hpc-sregistry)
description:
  - Finds the file of an image in the inventory of a host, as C(sregistry get) does, without another task.
  - Names are read as the modules read them, so that V(ubuntu) finds V(library/ubuntu:latest).
positional: _input, name
options:
  _input:
    description:
      - RV(hpc.sregistry.sregistry_facts#module:ansible_facts.sregistry), or the list of
        RV(hpc.sregistry.sregistry_facts#module:images). What is in the latter and not present is not found.
    type: raw
    required: true
  name:
    description:
      - The image, or a list of them.
    type: raw
    required: true
  platform:
    description:
      - The platform of the image, for example V(linux/arm64). It is needed where there are files for several.
    type: str
  default:
    description:
      - The value for an image without a file.
    type: raw
  registry:
    description:
      - The registry of names that name none.
    type: str
    default: docker.io
"""

EXAMPLES = r"""
- name: Run what an earlier task has pulled
  ansible.builtin.command:
    argv: [apptainer, exec, "{{ ansible_facts.sregistry | hpc.sregistry.image_path('ubuntu:24.04') }}", cat, /etc/issue]
  changed_when: false

- name: Pull what is not there
  hpc.sregistry.sregistry_pull:
    name: ubuntu:24.04
  when: not (ansible_facts.sregistry | hpc.sregistry.image_path('ubuntu:24.04'))
"""

RETURN = r"""
_value:
  description:
    - The path, or O(default). If there are several files, the newest. With a list of names, a list in their order.
  type: raw
"""

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

from ..module_utils._internal.errors import SregistryError
from ..module_utils._internal.oci.platform import Platform
from ..module_utils._internal.oci.reference import DOCKER_HUB
from ..plugin_utils._internal.inventories.rows import Row, by_age, rows_of, uri_of

_PRESENT = "present"


def image_path(
    value: object, name: object, platform: str | None = None, default: Any = None, registry: str = DOCKER_HUB
) -> Any:
    """Return the path of an image's file, or of several.

    :raises AnsibleFilterError: if the input is not an inventory, a name or platform is malformed, or files of several
        platforms are meant.
    """
    rows = rows_of(value)
    if isinstance(name, (list, tuple)):
        return [_path(rows, one, platform, default, registry) for one in name]
    return _path(rows, name, platform, default, registry)


def _path(rows: list[Row], name: object, platform: str | None, default: Any, registry: str) -> Any:
    uri = uri_of(name, registry)
    found = [row for row in rows if row["reference"] == uri and row["path"] and row.get("state", _PRESENT) == _PRESENT]
    if platform is not None:
        try:
            wanted = str(Platform.parse(platform))
        except SregistryError as error:
            raise AnsibleFilterError(str(error)) from error
        found = [row for row in found if row["platform"] == wanted]
    platforms = sorted({row["platform"] for row in found})
    if len(platforms) > 1:
        raise AnsibleFilterError(f"{uri} has files for {', '.join(platforms)}; say which with platform")
    return by_age(found)[-1]["path"] if found else default


class FilterModule:
    """Ansible asks this class for filters."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the one filter of this file."""
        return {"image_path": image_path}
