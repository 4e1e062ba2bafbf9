# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: inventory_table
short_description: A table of the images of many hosts
version_added: 0.1.0
author:
  - hpc.sregistry contributors (@hpc-sregistry)
description:
  - Makes a table with a row for each file of each image of each host. It has the host, the image, its platform, the
    size of the file, the digest of the image, when the file was built, and its state.
  - The digest is that of the manifest from which the file was made, and its first 12 digits are shown. What was built
    on the host or added has none. It is not the SHA-256 of the file.
options:
  _input:
    description:
      - By the name of each host, what M(hpc.sregistry.sregistry_facts) returned there, its facts, or the list of
        RV(hpc.sregistry.sregistry_facts#module:images).
    type: dict
    required: true
  digits:
    description:
      - How many digits of a digest to show, from 8 to 64.
    type: int
    default: 12
"""

EXAMPLES = r"""
- name: Read the inventory of each host
  hpc.sregistry.sregistry_facts:
  register: found

- name: Show what all of them have, once
  ansible.builtin.debug:
    msg: "{{ (dict(ansible_play_hosts | zip(results)) | hpc.sregistry.inventory_table).splitlines() }}"
  run_once: true
  vars:
    results: "{{ ansible_play_hosts | map('extract', hostvars, 'found') }}"
"""

RETURN = r"""
_value:
  description: The table, with a heading and without a newline at its end. Hosts and images stand in their order.
  type: str
  sample: |
    HOST   IMAGE                   PLATFORM         SIZE  DIGEST        BUILT                 STATE
    node1  quay.io/org/solver:2.4  linux/amd64  39.0 MiB  2dd8a02b696b  2026-11-22T00:41:30Z  present
"""

from collections.abc import Callable, Iterator, Mapping

from ansible.errors import AnsibleFilterError

from ..module_utils._internal.text import in_words
from ..plugin_utils._internal.inventories.rows import Row, digest_of, rows_of

_HEADING = ("HOST", "IMAGE", "PLATFORM", "SIZE", "DIGEST", "BUILT", "STATE")
_SIZE = _HEADING.index("SIZE")
_NONE = "-"
_FEWEST = 8  # digits of a digest; two names in one line would make ansible-doc warn
_MOST = 64


def inventory_table(value: object, digits: int = 12) -> str:
    """Return the table of the inventories of many hosts.

    :raises AnsibleFilterError: if the input is something else, or the number of digits makes no sense.
    """
    if not isinstance(value, Mapping):
        raise AnsibleFilterError("inventory_table wants a dictionary of hosts and what sregistry_facts returned there")
    if not _FEWEST <= digits <= _MOST:
        raise AnsibleFilterError(f"inventory_table shows from {_FEWEST} to {_MOST} digits of a digest, not {digits}")
    lines = [_HEADING, *(_cells(str(host), row, digits) for host, given in value.items() for row in _rows(host, given))]
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join("  ".join(_padded(line, widths)).rstrip() for line in lines)


def _rows(host: object, given: object) -> list[Row]:
    """Return the rows of a host. An error, such as for the result of a task that failed, names the host."""
    try:
        return rows_of(given)
    except AnsibleFilterError as error:
        raise AnsibleFilterError(f"inventory_table, {host}: {error}") from error


def _cells(host: str, row: Row, digits: int) -> tuple[str, ...]:
    size, digest = row.get("size"), digest_of(row)
    return (
        host,
        str(row["reference"]),
        str(row.get("platform") or _NONE),
        _NONE if size is None else in_words(size),
        digest.partition(":")[2][:digits] if digest else _NONE,
        str(row["created_at"]) if row["path"] and row.get("created_at") else _NONE,
        str(row.get("state") or _NONE),
    )


def _padded(line: tuple[str, ...], widths: list[int]) -> Iterator[str]:
    for at, (cell, width) in enumerate(zip(line, widths)):
        yield cell.rjust(width) if at == _SIZE else cell.ljust(width)


class FilterModule:
    """Ansible asks this class for filters."""

    def filters(self) -> dict[str, Callable[..., str]]:
        """Return the one filter of this file."""
        return {"inventory_table": inventory_table}
