# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter ``prestage_summary``."""

from __future__ import annotations

DOCUMENTATION = r"""
name: prestage_summary
short_description: Sum up the pulls of many hosts
version_added: 0.1.0
author:
  - hpc.sregistry contributors (@hpc-sregistry)
description:
  - Reduces the results of M(hpc.sregistry.sregistry_pull) of many hosts to one document. It tells for each image how
    many hosts have it, got it, or failed, and for each reason of a failure which hosts and images it is about.
  - The role P(hpc.sregistry.prestage#role) shows it.
positional: _input
options:
  _input:
    description:
      - By the name of each host, the registered result of M(hpc.sregistry.sregistry_pull), failed and unreachable ones
        too. An empty dictionary stands for a host that was not asked.
    type: dict
    required: true
  images:
    description:
      - The names of the images, as they were given to the task, in their order. Where not all hosts were given the
        same, a dictionary of hosts and such lists.
    type: raw
    required: true
  strategy:
    description:
      - The strategy that brought the images to the hosts.
    type: str
    choices: [each, build_once, shared]
    default: each
  check:
    description:
      - Whether it was in check mode.
    type: bool
    default: false
  locked:
    description:
      - Whether a host that has other files than it must have is a failure in check mode.
    type: bool
    default: false
  election:
    description:
      - The last result of P(hpc.sregistry.prestage_elect#filter), where some hosts went first.
    type: dict
    default: {}
  clean:
    description:
      - Whether images that are not listed were to be removed. The summary then tells where that was left undone.
    type: bool
    default: false
  keep_because:
    description:
      - Why it is not known what all hosts of a shared file system must have, so that nothing was removed; empty if it
        is known.
    type: str
    default: ''
  before:
    description:
      - Results of earlier tasks, each by host, as the input. Of a host, the first one counts that is neither empty nor
        skipped.
    type: list
    elements: dict
    default: []
  stores:
    description:
      - By host, the store that it was given. What a host says itself goes first.
    type: dict
    default: {}
  seen:
    description:
      - By host, the result of M(hpc.sregistry.sregistry_info), for the hosts that only look at what another host put
        onto their file system.
    type: dict
    default: {}
  removed:
    description:
      - By host, the result of M(hpc.sregistry.sregistry_remove), which removed what is not listed.
    type: dict
    default: {}
seealso:
  - module: hpc.sregistry.sregistry_pull
  - plugin: hpc.sregistry.prestage_elect
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Pull
  hpc.sregistry.sregistry_pull:
    name: "{{ site_images }}"
  register: pulled
  ignore_errors: true

- name: Show what became of them, once
  ansible.builtin.debug:
    msg: "{{ (dict(ansible_play_hosts | zip(results)) | hpc.sregistry.prestage_summary(site_images)).lines }}"
  run_once: true
  vars:
    results: "{{ ansible_play_hosts | map('extract', hostvars, 'pulled') }}"
"""

RETURN = r"""
_value:
  description: The summary.
  type: dict
  contains:
    hosts:
      description:
        - The numbers of hosts C(total), C(current), C(updated), C(cleaned), on which something was removed and nothing
          else done, and C(failed), and of those that failed the ones that were C(unreachable).
      type: dict
    store:
      description: The store, if it is known and the same on all hosts.
      type: str
    images:
      description:
        - For each image C(name), C(reference), C(size) in bytes, the numbers of hosts C(current), C(updated) and
          C(failed), and C(actions), how many hosts did what.
      type: list
      elements: dict
    leaders:
      description: The names of the hosts that went first and got something into its place.
      type: list
      elements: str
    made:
      description: The numbers of hosts that C(built) files, and of those that C(fetched) finished ones.
      type: dict
    mixed:
      description:
        - Names under which hosts of one platform have different images, as of a tag that moved meanwhile. Each has its
          C(name), C(platform) and C(digests), a list of C(digest), C(count) and C(hosts) in short form.
      type: list
      elements: dict
    causes:
      description:
        - For each reason of a failure its C(text), as the first of the hosts gave it, the C(count) of hosts, the
          C(hosts) in short form, and the names of the C(images), none if it is the reason for a whole host.
      type: list
      elements: dict
    removed:
      description: C(what) was removed, from how many hosts (C(count)), and from which C(hosts).
      type: list
      elements: dict
    kept:
      description: C(what) was kept since a symlink leads to it, on how many hosts (C(count)), and on which C(hosts).
      type: list
      elements: dict
    keep_because:
      description: Why nothing was removed anywhere, empty if that was not so.
      type: str
    not_cleaned:
      description: The names of the hosts from which nothing was removed, as not every image is in its place.
      type: list
      elements: str
    without_leader:
      description: The names of the hosts for which nobody could go first, where some are to.
      type: list
      elements: str
    bytes:
      description: How much the images take on a host.
      type: int
    fetched:
      description: How much all hosts have fetched, in bytes.
      type: int
    failed:
      description: The names of the hosts where anything failed.
      type: list
      elements: str
    differs:
      description: The names of the hosts that had other files than they must have, or in check mode have.
      type: list
      elements: str
    unseen:
      description: The names of the images that a host put onto a file system where another one does not see them.
      type: list
      elements: str
    verdict:
      description: Why it is a failure, on one line; empty if it is none.
      type: str
    lines:
      description: All of it as text.
      type: list
      elements: str
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

from ..plugin_utils._internal.prestage.lines import lines_of
from ..plugin_utils._internal.prestage.result import without_templates
from ..plugin_utils._internal.prestage.run import Run
from ..plugin_utils._internal.prestage.summary import Summary


def prestage_summary(
    results: Any, images: Sequence[str] | Mapping[str, Sequence[str]], **options: Any
) -> dict[str, Any]:
    """Read the results and the options, and sum up.

    :raises AnsibleFilterError: if one cannot be read.
    """
    if not isinstance(results, Mapping) or not all(isinstance(result, Mapping) for result in results.values()):
        raise AnsibleFilterError("prestage_summary wants a dictionary of hosts and their results of sregistry_pull")
    try:
        run = Run.of(results, images, options)
    except (TypeError, ValueError) as error:
        raise AnsibleFilterError(f"prestage_summary {error}") from error
    summary = Summary.of(run)
    return {**summary.to_json(), "lines": [without_templates(line) for line in lines_of(summary)]}


class FilterModule:
    """Ansible asks this class for filters."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the one filter of this file."""
        return {"prestage_summary": prestage_summary}
