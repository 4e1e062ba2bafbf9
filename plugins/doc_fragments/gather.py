# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  gather:
    description:
      - How much of the inventory to return as RV(ansible_facts).
      - V(all) returns the whole inventory, V(task) only the images of this task.
      - V(auto) returns the whole inventory as long as it has at most 1000 documents, since it travels to the controller
        after each task. M(hpc.sregistry.sregistry_facts) always returns all of it.
    type: str
    choices: [auto, all, task]
    default: auto
"""
