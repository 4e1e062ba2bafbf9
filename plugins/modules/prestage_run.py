# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The documentation of the action plugin ``prestage_run``."""

from __future__ import annotations

DOCUMENTATION = r"""
module: prestage_run
short_description: Run a module on those hosts of a play whose turn it is
version_added: 0.1.0
author:
  - hpc.sregistry contributors (@hpc-sregistry)
description:
  - A step of the role P(hpc.sregistry.prestage#role). On a host whose turn it is, it runs a module as a task of its own
    would. On the others it does nothing, and says that it was skipped.
  - In contrast to the keyword C(when), it goes together with a C(run_once) that is a template, which makes one line of
    output instead of one for each host where no host has anything to do.
  - A host that cannot be reached is C(unreachable) in its result, without a message of several lines.
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
    description: As the module does it.
  diff_mode:
    support: full
    description: As the module does it.
  platform:
    platforms: posix
options:
  module:
    description:
      - The name of the module.
    type: str
    required: true
  needed:
    description:
      - Whether it is the turn of this host.
    type: bool
    required: true
  options:
    description:
      - The options of the module.
    type: dict
    default: {}
  sees:
    description:
      - With M(hpc.sregistry.sregistry_info), what another host has put onto a file system that this one shares. The
        module runs again until it is seen, or O(within) is over. In check mode it runs once, and warnings are left out.
    type: dict
    suboptions:
      names:
        description: The names of the images.
        type: list
        elements: str
      group:
        description: The group of this host, as P(hpc.sregistry.prestage_elect#filter) returned it.
        type: dict
  within:
    description:
      - For how many seconds to look for O(sees).
    type: int
    default: 0
  use:
    description:
      - A text for the result.
    type: str
    default: ''
"""

EXAMPLES = r"""
- name: Pull on the first host only
  hpc.sregistry.prestage_run:
    module: hpc.sregistry.sregistry_pull
    options:
      name: quay.io/org/solver:2.4
    needed: "{{ inventory_hostname == ansible_play_hosts[0] }}"
  register: pulled
"""

RETURN = r"""
skipped:
  description: Whether it was not the turn of this host. Otherwise the result is that of the module.
  returned: when nothing was done
  type: bool
use:
  description: As O(use).
  returned: when it was given
  type: str
"""
