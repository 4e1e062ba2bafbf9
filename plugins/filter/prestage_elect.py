# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter ``prestage_elect``."""

from __future__ import annotations

DOCUMENTATION = r"""
name: prestage_elect
short_description: Elect the host of each group that pulls first
version_added: 0.1.0
author:
  - hpc.sregistry contributors (@hpc-sregistry)
description:
  - Elects one host of each group, and tells what the others learn from it. Where not a single image is in its place
    there, the next host gets a turn.
  - The role P(hpc.sregistry.prestage#role) uses it.
positional: _input
options:
  _input:
    description:
      - By the name of each host, in the order of the play, what M(hpc.sregistry.prestage_probe) returned. That has
        C(group), a text that is the same for hosts that get the same files, and C(names), the names of the images, in
        their order.
      - The group is empty for a host that cannot be asked.
    type: dict
    required: true
  results:
    description:
      - By host, the registered result of M(hpc.sregistry.sregistry_pull), an empty one for a host that did nothing yet.
    type: dict
    required: true
  leaders:
    description:
      - The hosts that may go first, in this order. Without it, these are all hosts, and at most three of a group
        get a turn.
    type: list
    elements: str
  asked:
    description:
      - RV(_value.next) of the time before. It is an error if one of them has no result yet.
    type: list
    elements: str
    default: []
  patient:
    description:
      - V(false) if the others need nothing from the host that goes first. Then it is not an error.
    type: bool
    default: true
seealso:
  - plugin: hpc.sregistry.prestage_summary
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Choose one host of each platform
  ansible.builtin.set_fact:
    election: "{{ probes | hpc.sregistry.prestage_elect({}) }}"
  run_once: true
  vars:
    probes:
      node1: {group: x86_64, names: [ubuntu, rockylinux]}
      node2: {group: x86_64, names: [ubuntu, rockylinux]}
      node3: {group: aarch64, names: [ubuntu]}

- name: Show them
  ansible.builtin.debug:
    var: election.next  # node1 and node3
"""

RETURN = r"""
_value:
  description: The next hosts, and all that is known by now.
  type: dict
  contains:
    next:
      description: The hosts whose turn it is. There are none if all groups have had theirs.
      type: list
      elements: str
    candidates:
      description:
        - The hosts that may get a turn from now on, those of RV(_value.next) and those that would come after them.
      type: list
      elements: str
    group_of:
      description: The group of each host.
      type: dict
    groups:
      description:
        - For each group C(has_candidates), whether any host of it may go first, its C(leader), the host that did, null
          if none could, and what the others learn from it. This is C(names), the images that they must try,
          C(failed), why not the others, C(digests), what the names point at, as the option
          O(hpc.sregistry.sregistry_pull#module:digests) takes it, and C(images), what the leader has in its place.
      type: dict
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

from ..plugin_utils._internal.prestage.leader import Probe, elect
from ..plugin_utils._internal.prestage.result import PullResult


def prestage_elect(
    probes: Any,
    results: Mapping[str, Mapping[str, Any]],
    leaders: Sequence[str] | None = None,
    asked: Sequence[str] = (),
    patient: bool = True,
) -> dict[str, Any]:
    """Read the options, and decide.

    :raises AnsibleFilterError: if one cannot be read, or a host that was asked to go first did not.
    """
    if not isinstance(probes, Mapping) or not isinstance(results, Mapping):
        raise AnsibleFilterError("prestage_elect wants dictionaries of hosts: their probes, and their results")
    try:
        known = {host: Probe.of(value) for host, value in probes.items()}
        pulls = {host: PullResult.of(results[host], probe.names) for host, probe in known.items() if results.get(host)}
        return elect(known, pulls, leaders, asked, patient).to_json()
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """Ansible asks this class for filters."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the one filter of this file."""
        return {"prestage_elect": prestage_elect}
