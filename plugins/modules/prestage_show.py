# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The documentation of the action plugin ``prestage_show``."""

from __future__ import annotations

DOCUMENTATION = r"""
module: prestage_show
short_description: Show lines as they are
version_added: 0.1.0
author:
  - hpc.sregistry contributors (@hpc-sregistry)
description:
  - Shows lines, such as those of P(hpc.sregistry.prestage_summary#filter), whatever Ansible shows of results. In
    contrast to M(ansible.builtin.debug) they are there with C(display_ok_hosts=false), without quotes, and whole in
    YAML.
  - Where the output of Ansible is JSON, they are in the result only.
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
    description: It changes nothing.
  diff_mode:
    support: none
    description: There is no difference to show.
  platform:
    platforms: posix
options:
  lines:
    description:
      - The lines.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Show what became of the images, once
  hpc.sregistry.prestage_show:
    lines: "{{ (dict(ansible_play_hosts | zip(results)) | hpc.sregistry.prestage_summary(site_images)).lines }}"
  run_once: true
  vars:
    results: "{{ ansible_play_hosts | map('extract', hostvars, 'pulled') }}"
"""

RETURN = r"""
lines:
  description: As O(lines).
  returned: always
  type: list
  elements: str
"""
