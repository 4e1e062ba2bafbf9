# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sources of a descriptor's content: itself, the registry, or other addresses."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import (
    DigestMismatch,
    NotFound,
    RegistryError,
)
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.blobs import BlobCache
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.descriptor import Descriptor
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.manifest import ImageManifest, parse_manifest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.platform import Platform
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.reference import Reference
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.registry.blob_source import source_of
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.registry.client import Registry
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.registry.image import resolve_image
from ansible_collections.hpc.sregistry.tests.unit.plugins.module_utils.conftest import Connect

from tests.faults import Fault, FaultyRegistry, faults
from tests.lab import oci

CONTENT = bytes(range(256)) * 100
DIGEST = oci.digest_of(CONTENT)
LOGIN = ("alice", "correct horse")


@pytest.fixture
def elsewhere() -> Iterator[FaultyRegistry]:
    """Yield a server that is not a registry, and asks for a login where it can."""
    with FaultyRegistry() as server:
        server.when("^/layer$", faults.served(CONTENT))
        server.when("^/guarded$", faults.challenged('Basic realm="x"', {faults.basic(*LOGIN)}))
        server.when("^/other$", faults.served(CONTENT[:-1] + b"x"))
        server.when("^/leads$", faults.status(302, {"Location": f"{server.url}/layer"}))
        server.when("^/cut$", faults.together(faults.truncated(1000), faults.served(CONTENT)), times=1)
        server.when("^/cut$", faults.served(CONTENT))
        yield server


@pytest.fixture
def registry(faulty: FaultyRegistry, connect: Connect) -> Registry:
    """Return a session with a registry that wants a login, and has it."""
    faulty.when("", faults.challenged('Basic realm="x"', {faults.basic(*LOGIN)}))
    return connect(faulty.address, LOGIN, retries=0)


def obtained(registry: Registry, cache: Path, *urls: str) -> bytes:
    blob = Descriptor(DIGEST, len(CONTENT), urls=urls)
    found = BlobCache(str(cache)).obtain(blob, source_of(registry, "team/tiny", blob), "the layer")
    return Path(found.path).read_bytes()


@pytest.mark.parametrize("path", ["/layer", "/leads", "/cut"])
def test_no_login_goes_where_a_manifest_leads(
    path: str, registry: Registry, faulty: FaultyRegistry, elsewhere: FaultyRegistry, tmp_path: Path
) -> None:
    urls = ("ftp://127.0.0.1/x", "/layer", "file:///etc/passwd", f"{elsewhere.url}/missing", f"{elsewhere.url}/guarded")
    assert obtained(registry, tmp_path, *urls, elsewhere.url + path) == CONTENT
    assert [one.status for one in faulty.requests][:2] == [401, 404], "the registry is asked first"
    assert {one.path for one in elsewhere.requests} >= {"/missing", "/guarded", path}
    assert not any("authorization" in one.headers for one in elsewhere.requests)


def test_what_is_broken_off_elsewhere_is_continued_there(
    registry: Registry, elsewhere: FaultyRegistry, tmp_path: Path
) -> None:
    obtained(registry, tmp_path, f"{elsewhere.url}/cut")
    assert [one.headers.get("range") for one in elsewhere.requests] == [None, "bytes=1000-"]


def test_the_digest_decides_wherever_it_comes_from(
    registry: Registry, elsewhere: FaultyRegistry, tmp_path: Path
) -> None:
    with pytest.raises(DigestMismatch, match="digest mismatch for the layer"):
        obtained(registry, tmp_path, f"{elsewhere.url}/other")


def test_where_nobody_has_it_all_are_named_without_their_secrets(
    registry: Registry, faulty: FaultyRegistry, elsewhere: FaultyRegistry, tmp_path: Path
) -> None:
    with pytest.raises(NotFound) as error:
        obtained(registry, tmp_path, f"{elsewhere.url}/missing?signature=s3cret", "ftp://me:pa55@host/x")
    for part in (f"not found: the blob {DIGEST} of {faulty.address}/team/tiny", f"{elsewhere.url}/missing does not"):
        assert part in str(error.value)
    assert "'ftp://host/x' is not an address of HTTP" in str(error.value)
    assert "s3cret" not in str(error.value)
    assert "pa55" not in str(error.value)


def test_what_the_registry_has_is_asked_nowhere_else(
    stored_blob: Descriptor, faulty: FaultyRegistry, connect: Connect, elsewhere: FaultyRegistry, tmp_path: Path
) -> None:
    registry = connect(faulty.address)
    BlobCache(str(tmp_path)).obtain(stored_blob, source_of(registry, "team/big", stored_blob), "the layer")
    assert elsewhere.requests == []


@pytest.fixture
def stored_blob(stored: object, elsewhere: FaultyRegistry) -> Descriptor:
    blob = stored.blob  # type: ignore[attr-defined]
    return Descriptor(blob.digest, len(blob.blob), urls=(f"{elsewhere.url}/layer",))


def layer(data: object, digest: str = DIGEST, size: int = len(CONTENT)) -> Descriptor:
    """Return a descriptor as it is read from a manifest."""
    described = {"mediaType": oci.OCI_LAYER, "digest": digest, "size": size, "data": data}
    config = {"mediaType": oci.OCI_CONFIG, "digest": DIGEST, "size": 1}
    document = {"schemaVersion": 2, "mediaType": oci.OCI_MANIFEST, "config": config, "layers": [described]}
    manifest = parse_manifest(json.dumps(document).encode(), oci.OCI_MANIFEST, "an image")
    assert isinstance(manifest, ImageManifest)
    return manifest.layers[0]


def test_content_in_a_descriptor_needs_no_request(connect: Connect, faulty: FaultyRegistry, tmp_path: Path) -> None:
    blob = layer(base64.b64encode(CONTENT).decode())
    source = source_of(connect(faulty.address), "team/tiny", blob)
    assert Path(BlobCache(str(tmp_path)).obtain(blob, source, "the layer").path).read_bytes() == CONTENT
    with source(100) as (begin, chunks):
        assert (begin, b"".join(chunks)) == (100, CONTENT[100:])
    assert faulty.requests == []


ENCODED = base64.b64encode(CONTENT).decode()


@pytest.mark.parametrize(
    "data",
    [None, 5, [], "", "%", "ä", ENCODED[:-4], ENCODED + "AAAA", base64.b64encode(CONTENT[:-1] + b"x").decode()],
    ids=str,
)
def test_content_in_a_descriptor_that_is_another_is_not_used(data: object) -> None:
    assert layer(data).data is None


def test_a_size_that_is_another_is_not_used() -> None:
    assert layer(ENCODED, size=len(CONTENT) + 1).data is None
    assert layer(ENCODED, digest="sha256:" + 64 * "0").data is None


def inline(content: bytes, media_type: str, **more: object) -> dict[str, object]:
    """Return a descriptor with its content."""
    data = base64.b64encode(content).decode()
    return {"mediaType": media_type, "digest": oci.digest_of(content), "size": len(content), "data": data, **more}


def test_an_index_may_hold_its_manifests(connect: Connect, tmp_path: Path) -> None:
    config = json.dumps({"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": []}}).encode()
    document = {
        "schemaVersion": 2,
        "mediaType": oci.OCI_MANIFEST,
        "config": inline(config, oci.OCI_CONFIG),
        "layers": [],
    }
    manifest = json.dumps(document).encode()
    platform = {"os": "linux", "architecture": "amd64"}
    index = {
        "schemaVersion": 2,
        "mediaType": oci.OCI_INDEX,
        "manifests": [inline(manifest, oci.OCI_MANIFEST, platform=platform)],
    }
    with FaultyRegistry() as server:
        answer: Fault = faults.says(json.dumps(index).encode(), headers={"Content-Type": oci.OCI_INDEX})
        server.when("/manifests/1$", answer)
        reference = Reference.parse(f"{server.address}/org/app:1")
        image = resolve_image(
            connect(server.address, retries=0), BlobCache(str(tmp_path)), reference, Platform("linux", "amd64")
        )
        assert image.manifest_digest == oci.digest_of(manifest)
        assert [one.path for one in server.requests] == ["/v2/org/app/manifests/1"]


def test_an_address_that_is_none_of_http_is_not_asked(connect: Connect, faulty: FaultyRegistry) -> None:
    with (
        pytest.raises(RegistryError, match="is not an address of HTTP"),
        connect(faulty.address).elsewhere("file:///etc/passwd", "the blob"),
    ):
        pass
