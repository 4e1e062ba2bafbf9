# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  platform:
    description:
      - The platform to choose from an image, as V(os/architecture) or V(os/architecture/variant), for example
        V(linux/arm64) or V(linux/arm/v6).
      - Other spellings such as V(linux/aarch64) are understood.
      - It wins over O(os) and O(architecture). The default is the platform of the managed host.
    type: str
  os:
    description:
      - The operating system to choose from an image, if O(platform) is not given.
      - If the option is not given, E(SREGISTRY_DOCKER_OS) of the managed host is used, then that of the host.
    type: str
  architecture:
    description:
      - The architecture to choose from an image, if O(platform) is not given. It may have a variant, as V(arm/v6).
      - If the option is not given, E(SREGISTRY_DOCKER_ARCHITECTURE) of the managed host is used, then that of the host.
    type: str
    aliases: [arch]
"""
