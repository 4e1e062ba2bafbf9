# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  name:
    description:
      - Images in Docker or OCI registries, as V([docker://][REGISTRY/]REPOSITORY[:TAG][@DIGEST]).
      - Finished SIF files in such registries, as V(oras://[REGISTRY/]REPOSITORY[:TAG][@DIGEST]).
      - Finished SIF files on web servers, as V(https://HOST/PATH[?QUERY][@DIGEST]), or with V(http://). The query is
        only asked with. It is not part of the name, and neither stored nor returned, since it may be a signature.
      - The first part is a registry only if it holds a dot or a colon, or is V(localhost). Otherwise the registry is
        O(registry), where V(ubuntu) stands for V(library/ubuntu) if that is Docker Hub. Without a tag, V(latest) is
        meant.
      - A digest wins over a tag. An image that is named by digest and is known needs no request at all.
      - All images of one task are resolved in parallel, and a layer that several of them share is fetched once.
    type: list
    elements: str
    required: true
    aliases: [uri, image]
  registry:
    description:
      - The registry of names that name none, as V(HOST[:PORT]). The base address of its API, such as
        V(https://registry.example.org/v2/), is understood as well.
      - If the option is not given, E(SREGISTRY_DOCKERHUB_BASE) of the managed host is used, then the default.
    type: str
    default: docker.io
  client:
    description:
      - The client of sregistry that a task is meant for. This collection is the one for Docker and OCI registries, and
        the option is here so that a E(SREGISTRY_CLIENT) of the managed host that names another one is an error and no
        surprise.
    type: str
    choices: [dockerhub, docker]
    default: dockerhub
"""
