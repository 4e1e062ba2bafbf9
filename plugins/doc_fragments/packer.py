# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  packer_processors:
    description:
      - How many processors C(mksquashfs) may use, and C(rapidgzip) where that is installed, for nodes that run jobs
        meanwhile. Normally all, but C(rapidgzip) never more than 4.
    type: int
  packer_memory:
    description:
      - How much memory C(mksquashfs) may use for its queues, such as V(512M), at least 64 MiB, normally 256 MiB.
    type: bytes
  niceness:
    description:
      - How much the whole build steps back behind other processes, from 0 to 19, as C(nice) understands it.
    type: int
    default: 0
"""
