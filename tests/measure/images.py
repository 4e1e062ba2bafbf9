# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The images of the lab that are measured."""

from __future__ import annotations

import json

from tests.lab import oci

TITLES = {
    "compiler": "Debian with a compiler and an application",
    "science": "MPI, HDF5, SciPy, two compilers and an application",
    "files": "60,000 small files",
    "single": "MPI, HDF5, SciPy and a compiler in one single layer",
}
HUGE = ("huge", "huge-tenth")
"""Images that are measured in another way, see ``tests/bench/huge.py``, and only when they are asked for."""


def reference(name: str) -> str:
    """Return ``repository:tag`` of an image of the benchmark."""
    return f"bench/{name}:latest"


def manifest(image: str) -> tuple[str, dict[str, int]]:
    """Return the digest of ``repository:tag``'s one manifest, and the bytes of its layers by digest, oldest first."""
    with oci.Client() as client:
        document = client.manifest(oci.reference(image))[0]
    return oci.digest_of(document), {each["digest"]: each["size"] for each in json.loads(document)["layers"]}
