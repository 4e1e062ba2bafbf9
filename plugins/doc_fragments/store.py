# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  storage:
    description:
      - The store, a directory on the managed host. Images without a path of their own are filed below it as
        C(<registry>/<collection>/<name>-<tag>.sif). The registry is left out for Docker Hub, and no file name holds a
        colon.
      - It is made if it is missing, also where a file system should have been mounted and is not.
      - If the option is not given, E(SREGISTRY_STORAGE) of the managed host is used, then the default.
    type: path
    default: ~/.singularity/shub
  database:
    description:
      - The directory of the inventory, which has one JSON document for each image and platform.
      - If the option is not given, E(SREGISTRY_DATABASE) of the managed host is used.
        Without either, it is the directory C(.sregistry) in O(storage).
    type: path
"""
