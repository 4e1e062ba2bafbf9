# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter ``fleet``."""

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet
short_description: Compare the image inventories of many hosts
version_added: 0.1.0
author:
  - hpc.sregistry contributors (@hpc-sregistry)
description:
  - Reduces the results of M(hpc.sregistry.sregistry_facts) of many hosts to one document that tells, for each host and
    each image, whether the file there is current, outdated, different, modified or missing.
  - The role P(hpc.sregistry.report#role) makes a page of it. L(docs/report.md,
    https://github.com/hpc-sregistry/hpc.sregistry/blob/main/docs/report.md) describes the document.
positional: _input
options:
  _input:
    description:
      - By the name of each host, the registered result of M(hpc.sregistry.sregistry_facts), failed and unreachable ones
        too. An empty dictionary stands for a host that was not asked.
    type: dict
    required: true
  now:
    description:
      - The time of the comparison in UTC, as V(2026-11-22T06:40:00Z).
    type: str
    required: true
  images:
    description:
      - The names of the images that each host must have. A host without a file of one of them counts as missing it.
      - Nothing is expected if it is not given.
    type: list
    elements: str
  digests:
    description:
      - The digests that names point at now, as a dictionary; they may be those of an index or of a manifest.
      - For a name that is not in it, the newest entry that any of the hosts has is taken for current.
    type: dict
    default: {}
  registry:
    description:
      - The registry of names that name none, as V(HOST[:PORT]).
    type: str
    default: docker.io
seealso:
  - module: hpc.sregistry.sregistry_facts
"""

EXAMPLES = r"""
- name: Read the inventories
  hpc.sregistry.sregistry_facts:
  register: store

- name: Name the hosts that have an outdated image
  ansible.builtin.debug:
    msg: "{{ fleet.images | map(attribute='exceptions') | flatten | selectattr('state', 'eq', 'outdated') }}"
  run_once: true
  vars:
    stores: "{{ ansible_play_hosts | map('extract', hostvars, 'store') }}"
    time: "{{ now(utc=true).strftime('%Y-%m-%dT%H:%M:%SZ') }}"
    fleet: "{{ dict(ansible_play_hosts | zip(stores)) | hpc.sregistry.fleet(now=time) }}"
"""

RETURN = r"""
_value:
  description: The comparison.
  type: dict
  contains:
    counts:
      description: How many hosts and cells are in which state, and how many bytes all files take.
      type: dict
    images:
      description:
        - One entry for each image, with C(reference), C(current) digests, C(counts) of hosts by state, C(exceptions)
          with lists of hosts, sizes, ages and the distinct C(files).
      type: list
      elements: dict
    hosts:
      description:
        - One entry for each host, with C(name), C(status), C(space), number of C(problems), and C(states), one letter
          for each image.
      type: list
      elements: dict
    groups:
      description: Which hosts are alike, the largest group first.
      type: list
      elements: dict
"""

from collections.abc import Mapping
from typing import Any, Callable

from ansible.errors import AnsibleFilterError

from ..module_utils._internal.errors import InvalidReference
from ..module_utils._internal.oci.reference import DOCKER_HUB, Reference, check_digest, parse_registry
from ..plugin_utils._internal.inventories.fleet import compare


def fleet(
    facts: Any,
    now: str,
    images: list[str] | None = None,
    digests: Mapping[str, str] | None = None,
    registry: str = DOCKER_HUB,
) -> dict[str, Any]:
    """Read the options, and compare.

    :raises AnsibleFilterError: if one cannot be read.
    """
    if not isinstance(facts, Mapping):
        raise AnsibleFilterError("fleet wants a dictionary of hosts and their results of sregistry_facts")
    try:
        host = parse_registry(registry)
        expected = None if images is None else [Reference.parse_known(name, host).uri for name in images]
        known = {Reference.parse(name, host).uri: check_digest(digest) for name, digest in (digests or {}).items()}
        return compare(facts, now, expected, known)
    except (InvalidReference, ValueError) as error:
        raise AnsibleFilterError(f"fleet: {error}") from error


class FilterModule:
    """Ansible asks this class for filters."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the one filter of this file."""
        return {"fleet": fleet}
