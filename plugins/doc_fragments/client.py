# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  registry:
    description:
      - The registry of names that name none, as V(HOST[:PORT]).
      - If the option is not given, E(SREGISTRY_DOCKERHUB_BASE) of the managed host is used, then the default.
    type: str
    default: docker.io
  client:
    description:
      - The client of sregistry that a task is meant for, as with M(hpc.sregistry.sregistry_pull).
    type: str
    choices: [dockerhub, docker]
    default: dockerhub
"""
