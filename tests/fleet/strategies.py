# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The strategies: how each brings one image to all hosts, as plays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.lab.registry import REGISTRIES

ORIGIN, MIRROR, STORE = "plain", "mirror", "store"

EACH, MIRRORED, BUILD_ONCE, SHARED = "each", "each_mirror", "build_once", "shared"
TITLES = {
    EACH: "each",
    MIRRORED: "each, with a mirror",
    BUILD_ONCE: "build_once",
    SHARED: "shared, all at once",
}

STORAGE = "/var/lib/fleet"
CACHE = "/var/tmp/fleet"
SHARED_STORAGE = "/shared/fleet"
OWN_DIRECTORIES = (STORAGE, CACHE)
"""All that a run leaves on a host, beside what is in SHARED_STORAGE."""


def plays(strategy: str, repository: str, hosts: Sequence[str], prefix: str) -> list[dict[str, Any]]:
    """The playbook that brings an image of the origin, by its repository, to all hosts.

    :param prefix: of the repositories in the store that finished files go to.
    """
    name = f"{REGISTRIES[ORIGIN].address}/{repository}:latest"
    own = {"name": [name], "storage": STORAGE, "cachedir": CACHE, "no_https": True}
    if strategy == EACH:
        return [_play(hosts, own)]
    if strategy == MIRRORED:
        return [_play(hosts, {**own, "mirrors": {REGISTRIES[ORIGIN].address: REGISTRIES[MIRROR].url}})]
    if strategy == BUILD_ONCE:
        cache = {**own, "sif_cache": f"{REGISTRIES[STORE].url}/{prefix}"}
        builder = _play(hosts[:1], {**cache, "sif_cache_push": True})
        others = _play(hosts[1:], {**cache, "sif_cache_miss": "fail"})
        return [builder, others] if hosts[1:] else [builder]
    # Without run_once: what is measured is that they may all begin at once.
    return [_play(hosts, {**own, "storage": f"{SHARED_STORAGE}/images", "cachedir": f"{SHARED_STORAGE}/cache"})]


def _play(hosts: Sequence[str], options: dict[str, Any]) -> dict[str, Any]:
    pull = {"name": "The image is there", "hpc.sregistry.sregistry_pull": options}
    return {"hosts": ",".join(hosts), "gather_facts": False, "tasks": [pull]}
