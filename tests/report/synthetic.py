# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts of a cluster of any size, as ``sregistry_facts`` returns them. The same each time."""

from __future__ import annotations

import hashlib
import random
from typing import Any

NOW = "2026-11-22T06:40:00Z"
_APPLICATIONS = """
    gromacs lammps namd openfoam quantum-espresso cp2k amber vasp-tools nwchem orca siesta abinit octopus wrf icon
    nemo elmer code-aster calculix su2 gmsh paraview visit ovito vmd pytorch tensorflow jax rapids r-bioc julia
    octave scipy dask spark miniforge bwa samtools gatk star salmon blast hmmer mafft alphafold colabfold relion
    cryosparc-worker
""".split()  # noqa: SIM905 (a list of them would be a page long)


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def image_names(count: int) -> list[str]:
    """Return the names of that many images."""
    names = []
    for number in range(count):
        application = _APPLICATIONS[number % len(_APPLICATIONS)]
        registry = ("quay.io/hpc", "registry.example.org/apps", "library")[number % 3]
        names.append(f"{registry}/{application}:{2024 + number % 3}.{1 + number // len(_APPLICATIONS)}")
    return names


def row(
    uri: str, number: int = 0, build: int = 0, day: int = 1, state: str = "present", **other: Any
) -> dict[str, Any]:
    """Return one row of the facts: build 1 of an image is newer than build 0."""
    manifest = f"sha256:{_digest(uri, build)}"
    name = uri.rpartition("/")[2].replace(":", "-")
    return {
        "reference": uri,
        "platform": "linux/amd64",
        "digest": f"sha256:{_digest(uri, build, 'index')}",
        "manifest_digest": manifest,
        "updated_at": f"2026-11-{day:02}T0{number % 10}:{number % 60:02}:00Z",
        "path": f"/local/images/{name}.sif",
        "sha256": _digest(uri, build, "file"),
        "size": 40_000_000 + int(_digest(uri)[:8], 16),
        "created_at": f"2026-11-{day:02}T0{number % 10}:{number % 60:02}:00Z",
        "built_from": manifest,
        "outdated": False,
        "state": state,
        **other,
    }


def result(rows: list[dict[str, Any]], storage: str = "/local/images") -> dict[str, Any]:
    """Return the result of a host with these rows."""
    return {"changed": False, "images": rows, "ansible_facts": {"sregistry": {"storage": storage}}}


def facts(hosts: int, images: int, alike: bool = True) -> dict[str, dict[str, Any]]:
    """Return each host's result. Most are alike, some have fallen behind, some have lost files, some do not answer.

    :param alike: whether hosts with the same images have the same files; if not, each file of each host is one of its
        own, which is the most that a report may have to tell.
    """
    chance = random.Random("fleet")
    names = image_names(images)
    found: dict[str, dict[str, Any]] = {}
    for number in range(1, hosts + 1):
        host = f"node{number:03}"
        if number in (77, 78, 311):
            found[host] = {"unreachable": True, "msg": "Failed to connect to the host via ssh: No route to host"}
            continue
        if number == 205:
            found[host] = {"failed": True, "msg": "cannot read the inventory document: Input/output error"}
            continue
        rows = []
        storage = "/local/images" if alike else f"/home/user{number:03}/images"
        for image, uri in enumerate(names):
            moved = image % 17 == 3
            behind = moved and 120 <= number <= 139
            made = row(uri, image, build=int(moved and not behind), day=20 if moved and not behind else 3)
            if image == 7 and number <= 400:
                continue  # an image of a few
            if 40 <= number <= 44 and image % 9 == 4:
                made["state"] = "missing"
            if number == 45 and image == 11:
                made["state"] = "modified"
            if 300 <= number <= 309 and image % 25 == 5:
                made["sha256"] = _digest(uri, "another packer")
            if image == 13 and number > 400:
                made.update(path=None, sha256="", size=None, built_from=None, outdated=None, state="remote")
            if not alike:
                made["sha256"] = _digest(uri, number)
                made["path"] = made["path"] and made["path"].replace("/local/images", storage)
                made["created_at"] = f"2026-11-03T{chance.randrange(24):02}:{chance.randrange(60):02}:00Z"
            rows.append(made)
        found[host] = result(rows, storage)
    return found
