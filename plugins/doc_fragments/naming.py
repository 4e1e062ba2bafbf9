# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  registry:
    description:
      - The registry of names that name none, as V(HOST[:PORT]). It is not asked for anything.
      - If the option is not given, E(SREGISTRY_DOCKERHUB_BASE) of the managed host is used, then the default.
    type: str
    default: docker.io
requirements:
  - python >= 3.9
notes:
  - An option wins over the environment variable of the managed host that stands in its description, and this wins
    over its default.
"""
