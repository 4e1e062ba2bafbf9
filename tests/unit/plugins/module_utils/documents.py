# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documents of an inventory, as tests need them."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from pathlib import Path
from typing import Any

from ansible_collections.hpc.sregistry.plugins.module_utils._internal.inventory.document import Document, File
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.platform import Platform
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.reference import Reference

AMD64 = Platform("linux", "amd64")
ARM64 = Platform("linux", "arm64")
SCHEMA = Path(__file__).parents[4] / "docs" / "inventory.schema.json"


def digest(text: str) -> str:
    """Return a digest that the text makes."""
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def image_file(path: str, manifest: str = "manifest") -> File:
    """Return what an inventory knows of a file that was built; none has to be there."""
    return File(
        path=path,
        size=1000,
        mtime_ns=1_700_000_000_123_456_789,
        sha256=hashlib.sha256(os.fsencode(path)).hexdigest(),
        manifest_digest=digest(manifest),
        inputs={
            "format": "sif",
            "command": "entrypoint",
            "compression": "zstd",
            "level": "3",
            "reproducible": "yes",
            "engine": "apptainer",
        },
        engine_version="1.4.5",
        packer="mksquashfs 4.6.1",
        builder="stream",
        created_at="2024-05-02T00:00:00Z",
    )


def file_there(path: Path) -> File:
    """Return the same of a file that is there."""
    status = path.stat()
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return dataclasses.replace(image_file(str(path)), size=status.st_size, mtime_ns=status.st_mtime_ns, sha256=sha256)


def document(name: str, *files: File, platform: Platform = AMD64, **changes: Any) -> Document:
    """Return what an inventory knows of an image."""
    result = Document(
        reference=Reference.parse(name),
        platform=platform,
        digest=digest("index"),
        manifest_digest=digest("manifest"),
        media_type="application/vnd.oci.image.index.v1+json",
        layers=({"digest": digest("layer"), "size": 77, "media_type": "application/vnd.oci.image.layer.v1.tar+gzip"},),
        size=77,
        metrics={"manifest": {"schemaVersion": 2}},
        created_at="2024-05-01T00:00:00Z",
        updated_at="2024-05-02T00:00:00Z",
        files=files,
    )
    return dataclasses.replace(result, **changes)
