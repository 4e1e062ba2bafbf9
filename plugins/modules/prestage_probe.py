# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The documentation of the action plugin ``prestage_probe``."""

from __future__ import annotations

DOCUMENTATION = r"""
module: prestage_probe
short_description: Ask a host for all that decides which files it gets
version_added: 0.1.0
author:
  - hpc.sregistry contributors (@hpc-sregistry)
description:
  - A step of the role P(hpc.sregistry.prestage#role), which needs it before one host can go first for others. It is for
    registering, and P(hpc.sregistry.prestage_elect#filter) reads what it registered.
  - It is an action plugin. It asks the host by its shell, at most once, and needs no Python there.
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
  names:
    description:
      - The names of the images that the host must have.
    type: list
    elements: str
    required: true
  use:
    description:
      - A text that tells one use of the role from another.
    type: str
    required: true
  store:
    description:
      - The store, if it was given.
    type: str
    default: ''
  clean:
    description:
      - Whether anything is to be removed from the host.
    type: bool
    default: false
  grouped:
    description:
      - Whether one host goes first for those that get the same files.
    type: bool
    default: false
  content:
    description:
      - All that decides, besides platform and engine, which files the host gets.
    type: list
    elements: raw
    default: []
  platform:
    description:
      - The platform, if it is known. Otherwise the host is asked for its architecture.
    type: str
    default: ''
  engine:
    description:
      - Whether the kind of the engine decides which files the host gets.
    type: bool
    default: false
  engine_path:
    description:
      - The executable of the engine, if it was given.
    type: str
    default: ''
  mount:
    description:
      - A path that must be a mount point.
    type: str
    default: ''
"""

EXAMPLES = r"""
- name: Probe the host
  hpc.sregistry.prestage_probe:
    names: [quay.io/org/solver:2.4]
    use: this campaign
    grouped: true
    mount: /local
  register: wanted
"""

RETURN = r"""
group:
  description: A name for the hosts that get the same files; empty if it is not known, or not asked for.
  returned: always
  type: str
  sample: x86_64 apptainer 0123456789ab
obstacle:
  description:
    - Why the host can have no image, as a result of M(hpc.sregistry.sregistry_pull) would say it. Empty if it can.
    - A host that cannot be reached is C(unreachable) here, and the task does not fail.
  returned: always
  type: dict
time:
  description: When it was asked, in seconds since the epoch, by the clock of the controller.
  returned: always
  type: float
names:
  description: As O(names).
  returned: always
  type: list
  elements: str
use:
  description: As O(use).
  returned: always
  type: str
store:
  description: As O(store).
  returned: always
  type: str
clean:
  description: As O(clean).
  returned: always
  type: bool
"""
