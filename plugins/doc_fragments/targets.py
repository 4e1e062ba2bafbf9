# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  name:
    description:
      - Names of images that the inventory knows. All files that it has of them are meant.
      - Give this, O(path), or both.
    type: list
    elements: str
    aliases: [uri, image]
  path:
    description:
      - Absolute paths of SIF files on the managed host, whether the inventory knows them or not.
    type: list
    elements: path
"""
