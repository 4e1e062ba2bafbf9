# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plays that bring an image to all hosts: the strategies of the role ``prestage``, and what people did before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tests.fleet.results import Image
from tests.lab.registry import REGISTRIES

ORIGIN, MIRROR, STORE = "plain", "mirror", "store"

LOOP = "loop"
EACH, MIRRORED, MIRRORED_3 = "each", "each_mirror", "each_mirror_3"
BUILD_ONCE, DENSE = "build_once", "build_once_dense"
SHARED, AT_ONCE = "shared", "at_once"
TITLES = {
    LOOP: "apptainer pull",
    EACH: "each",
    MIRRORED: "each, with a mirror",
    MIRRORED_3: "each, mirror of version 3",
    BUILD_ONCE: "build_once",
    DENSE: "build_once, zstd 12",
    SHARED: "shared",
    AT_ONCE: "shared, all at once",
}

ENOUGH = {LOOP: (1,)}
"""On how many hosts it is enough to run one: what hosts do in a loop over ``apptainer pull`` they do alone."""

STORAGE = "/var/lib/fleet"
CACHE = "/var/tmp/fleet"
SHARED_STORAGE = "/shared/fleet"
OWN_DIRECTORIES = (STORAGE, CACHE)
"""All that a run leaves on a host, beside what is in SHARED_STORAGE."""


def play(strategy: str, image: Image, hosts: Sequence[str], prefix: str, more: Mapping[str, object]) -> dict[str, Any]:
    """Return the play that brings an image of the origin to all hosts.

    :param prefix: of the repositories in the store that finished files go to.
    :param more: variables of the role.
    """
    origin = REGISTRIES[ORIGIN].address
    name = f"{origin}/{image.repository}:latest"
    if strategy == LOOP:
        command = ["apptainer", "pull", "--no-https", f"{STORAGE}/image.sif", f"docker://{name}"]
        return _play(
            hosts,
            environment={"APPTAINER_CACHEDIR": CACHE},
            tasks=[
                {"ansible.builtin.file": {"path": STORAGE, "state": "directory", "mode": "0755"}},
                {"ansible.builtin.command": {"argv": command, "creates": f"{STORAGE}/image.sif"}},
            ],
        )
    if strategy == AT_ONCE:  # without the role, which would let one host go first
        options = {"name": [name], "no_https": True, "storage": f"{SHARED_STORAGE}/images"}
        options["cachedir"] = f"{SHARED_STORAGE}/cache"
        return _play(hosts, tasks=[{"name": "The image is there", "hpc.sregistry.sregistry_pull": options}])
    variables: dict[str, Any] = {
        "prestage_strategy": {MIRRORED: EACH, MIRRORED_3: EACH, DENSE: BUILD_ONCE}.get(strategy, strategy),
        "prestage_images": [name],
        "prestage_no_https": True,
        "prestage_storage": STORAGE,
        "prestage_cachedir": CACHE,
        "prestage_summary": False,
        **more,
    }
    if strategy in (MIRRORED, MIRRORED_3):
        variables["prestage_mirrors"] = {origin: REGISTRIES[MIRROR].url}
    elif strategy in (BUILD_ONCE, DENSE):
        variables["prestage_sif_cache"] = f"{REGISTRIES[STORE].url}/{prefix}"
        if strategy == DENSE:  # what is built once may take longer
            variables |= {"prestage_compression": "zstd", "prestage_compression_level": 12}
    elif strategy == SHARED:
        variables["prestage_storage"] = f"{SHARED_STORAGE}/images"
        variables["prestage_cachedir"] = f"{SHARED_STORAGE}/cache"
    return _play(hosts, roles=[{"role": "hpc.sregistry.prestage", **variables}])


def _play(hosts: Sequence[str], **what: Any) -> dict[str, Any]:
    return {"hosts": ",".join(hosts), "gather_facts": False, **what}
