# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  engine:
    description:
      - Path or name of the C(apptainer) or C(singularity) executable.
      - The default is the first of C(apptainer) and C(singularity) in E(PATH) and in C(/usr/local/bin), C(/usr/bin),
        C(/opt/apptainer/bin) and C(/opt/singularity/bin).
    type: path
"""
