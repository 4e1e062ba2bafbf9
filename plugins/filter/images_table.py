# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: images_table
short_description: The table of C(sregistry images), from the facts
version_added: 0.1.0
author:
  - hpc.sregistry contributors (@hpc-sregistry)
description:
  - Makes the text that C(sregistry images) prints, to the tab, from the inventory of a host.
  - Behind C(@) stands the digest of the image, or the version that C(sregistry) itself gave to a file. What was built
    on the host or added has neither.
  - Images are numbered in the order in which they came. Those whose file is not there are C(remote).
options:
  _input:
    description:
      - RV(hpc.sregistry.sregistry_facts#module:ansible_facts.sregistry), or the list of
        RV(hpc.sregistry.sregistry_facts#module:images).
    type: raw
    required: true
"""

EXAMPLES = r"""
- name: Show what there is
  ansible.builtin.debug:
    msg: "{{ (ansible_facts.sregistry | hpc.sregistry.images_table).splitlines() }}"

- name: Write it to a file
  ansible.builtin.copy:
    content: "{{ ansible_facts.sregistry | hpc.sregistry.images_table }}\n"
    dest: /var/log/images.txt
    mode: "0644"
"""

RETURN = r"""
_value:
  description: The table, without a newline at its end. For an empty inventory it is empty.
  type: str
"""

from collections.abc import Callable

from ..plugin_utils._internal.inventories.rows import Row, by_age, long_date, rows_of, versioned

_HEADER = "Containers:   [date]   [location]  [client]\t[uri]"
_MISSING = "missing"


def images_table(value: object) -> str:
    """Return the table of an inventory.

    :raises AnsibleFilterError: if the input is not an inventory.
    """
    rows = by_age(rows_of(value))
    return "\n".join([_HEADER, *(_line(number, row) for number, row in enumerate(rows, 1))]) if rows else ""


def _line(number: int, row: Row) -> str:
    location = "local " if row["path"] and row.get("state") != _MISSING else "remote"
    cells = (long_date(row["created_at"]), location, f"   [{row['client']}]", versioned(row))
    return f"{number!s:<2} " + "\t".join(cells)


class FilterModule:
    """Ansible asks this class for filters."""

    def filters(self) -> dict[str, Callable[..., str]]:
        """Return the one filter of this file."""
        return {"images_table": images_table}
