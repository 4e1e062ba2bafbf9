# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
attributes:
  check_mode:
    support: full
    description: Can run in C(check_mode) and return the changed status without modifying the target.
  diff_mode:
    support: full
    description: Returns what has changed, or would change in C(check_mode), when in diff mode.
  idempotent:
    support: full
    description: When run twice in a row with the same arguments, the second run does not change anything.
  platform:
    support: full
    platforms: linux
    description: Target systems that the module runs on.
  action_group:
    support: full
    description: Use C(group/hpc.sregistry.sregistry) in C(module_defaults) to set defaults for this module.
    membership:
      - hpc.sregistry.sregistry
"""
