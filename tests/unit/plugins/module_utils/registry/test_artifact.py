# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Manifests of a SIF file, and the messages about others."""

from __future__ import annotations

import hashlib
import json
from typing import Any, cast

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import InvalidManifest, PlatformNotFound
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.manifest import parse_manifest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.platform import Platform
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.reference import Reference
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.registry.artifact import resolve_artifact
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.registry.client import Manifest, Registry

AMD64 = Platform("linux", "amd64")
NAME = Reference.parse("oras://host/org/app:1")
MANIFEST, INDEX = (f"application/vnd.oci.image.{kind}.v1+json" for kind in ("manifest", "index"))
SIF = "application/vnd.sylabs.sif.layer.v1.sif"
TAR = "application/vnd.oci.image.layer.v1.tar+gzip"
SIF_CONFIG = "application/vnd.sylabs.sif.config.v1+json"
IMAGE_CONFIG = "application/vnd.oci.image.config.v1+json"


def digest_of(document: Any) -> str:
    return f"sha256:{hashlib.sha256(json.dumps(document).encode()).hexdigest()}"


def descriptor(media_type: str, size: int = 7, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(media_type), "size": size, **more}


def manifest(config: str, *layers: str) -> dict[str, Any]:
    described = [descriptor(layer) for layer in layers]
    return {"schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(config), "layers": described}


def index(*members: tuple[dict[str, Any], str]) -> dict[str, Any]:
    described = [
        {**descriptor(MANIFEST), "digest": digest_of(member), "platform": {"os": "linux", "architecture": architecture}}
        for member, architecture in members
    ]
    return {"schemaVersion": 2, "mediaType": INDEX, "manifests": described}


class Shelf:
    """A registry that has the first document under its tag, and all of them under their digests."""

    def __init__(self, *documents: dict[str, Any]) -> None:
        self._documents = documents

    def get(self, reference: Reference) -> Manifest:
        """Return the document of a name."""
        found = {digest_of(document): document for document in self._documents}
        document = found[reference.digest] if reference.digest else self._documents[0]
        return Manifest(digest_of(document), document["mediaType"], json.dumps(document).encode())


def resolved(*documents: dict[str, Any]) -> Any:
    return resolve_artifact(cast(Registry, Shelf(*documents)), NAME, AMD64)


@pytest.mark.parametrize("config", [SIF_CONFIG, IMAGE_CONFIG, "application/vnd.unknown.config.v1+json"])
@pytest.mark.parametrize("layer", [SIF, "appliciation/vnd.sylabs.sif.layer.tar"])
def test_one_layer_of_a_sif_is_a_sif_whatever_its_config(config: str, layer: str) -> None:
    document = manifest(config, layer)
    artifact = resolved(document)
    assert artifact.digest == artifact.manifest_digest == digest_of(document)
    assert [one.digest for one in artifact.layers] == [digest_of(layer)]
    assert artifact.size == 7
    assert artifact.documents == {"manifest": document}


def test_an_index_leads_to_the_sif_of_the_platform() -> None:
    one, other = manifest(SIF_CONFIG, SIF), manifest(IMAGE_CONFIG, SIF)
    both = index((other, "arm64"), (one, "amd64"))
    artifact = resolved(both, one, other)
    assert (artifact.digest, artifact.manifest_digest) == (digest_of(both), digest_of(one))
    assert artifact.documents == {"index": both, "manifest": one}
    with pytest.raises(PlatformNotFound, match=r"no linux/amd64 in oras://host/org/app:1 \(it has linux/arm64\)"):
        resolved(index((other, "arm64")), other)


def test_what_the_name_points_at_is_not_asked_where_it_is_known() -> None:
    tagged, pinned = manifest(SIF_CONFIG, SIF), manifest(IMAGE_CONFIG, SIF)
    artifact = resolve_artifact(cast(Registry, Shelf(tagged, pinned)), NAME, AMD64, digest_of(pinned))
    assert (artifact.digest, artifact.reference) == (digest_of(pinned), NAME)


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (
            manifest(IMAGE_CONFIG, TAR),
            "is not a SIF file but a container image, whose layers have to be built into one; name",
        ),
        (manifest(IMAGE_CONFIG), "is not a SIF file but a container image"),
        (manifest(SIF_CONFIG, SIF, SIF), "has 2 layers; what is a SIF file has one"),
        (manifest(SIF_CONFIG, SIF, TAR), "has 2 layers; what is a SIF file has one"),
        (
            manifest("application/vnd.cncf.helm.config.v1+json", TAR),
            "is not a SIF file but a Helm chart; name one that apptainer push has written",
        ),
        (manifest("application/x-own", TAR), "is not a SIF file but an artifact of type 'application/x-own'; name one"),
    ],
)
def test_anything_else_is_refused_by_what_it_is(document: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidManifest) as error:
        resolved(document)
    assert str(error.value).startswith(f"{NAME} ")
    assert why in str(error.value)


@pytest.mark.parametrize("config", [SIF_CONFIG, IMAGE_CONFIG])
def test_who_wants_an_image_and_meets_a_sif_is_told_its_scheme(config: str) -> None:
    content = json.dumps(manifest(config, SIF)).encode()
    with pytest.raises(
        InvalidManifest, match=r"but a finished SIF file; pull it as it is, with oras:// before its name"
    ):
        parse_manifest(content, MANIFEST, "host/org/app:1")
