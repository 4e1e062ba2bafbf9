# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The strategies of the role ``prestage``: how each brings one image to all hosts, as a play."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tests.fleet.results import Image
from tests.lab.registry import REGISTRIES

ORIGIN, MIRROR, STORE = "plain", "mirror", "store"

EACH, MIRRORED, BUILD_ONCE, SHARED, AT_ONCE = "each", "each_mirror", "build_once", "shared", "at_once"
TITLES = {
    EACH: "each",
    MIRRORED: "each, with a mirror",
    BUILD_ONCE: "build_once",
    SHARED: "shared",
    AT_ONCE: "shared, all at once",
}

STORAGE = "/var/lib/fleet"
CACHE = "/var/tmp/fleet"
SHARED_STORAGE = "/shared/fleet"
OWN_DIRECTORIES = (STORAGE, CACHE)
"""All that a run leaves on a host, beside what is in SHARED_STORAGE."""


def play(strategy: str, image: Image, hosts: Sequence[str], prefix: str, more: Mapping[str, object]) -> dict[str, Any]:
    """What brings an image of the origin to all hosts.

    :param prefix: of the repositories in the store that finished files go to.
    :param more: variables of the role.
    """
    origin = REGISTRIES[ORIGIN].address
    name = f"{origin}/{image.repository}:latest"
    if strategy == AT_ONCE:  # without the role, which would let one host go first
        options = {"name": [name], "no_https": True, "storage": f"{SHARED_STORAGE}/images"}
        options["cachedir"] = f"{SHARED_STORAGE}/cache"
        return _play(hosts, tasks=[{"name": "The image is there", "hpc.sregistry.sregistry_pull": options}])
    variables: dict[str, Any] = {
        "prestage_strategy": "each" if strategy == MIRRORED else strategy,
        "prestage_images": [name],
        "prestage_no_https": True,
        "prestage_storage": STORAGE,
        "prestage_cachedir": CACHE,
        "prestage_summary": False,
        **more,
    }
    if strategy == MIRRORED:
        variables["prestage_mirrors"] = {origin: REGISTRIES[MIRROR].url}
    elif strategy == BUILD_ONCE:
        variables["prestage_sif_cache"] = f"{REGISTRIES[STORE].url}/{prefix}"
    elif strategy == SHARED:
        variables["prestage_storage"] = f"{SHARED_STORAGE}/images"
        variables["prestage_cachedir"] = f"{SHARED_STORAGE}/cache"
    return _play(hosts, roles=[{"role": "hpc.sregistry.prestage", **variables}])


def _play(hosts: Sequence[str], **what: Any) -> dict[str, Any]:
    return {"hosts": ",".join(hosts), "gather_facts": False, **what}
