# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a name to one image of one platform, with a real registry."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import (
    DigestMismatch,
    InvalidManifest,
    NotFound,
    PlatformNotFound,
    SregistryError,
)
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.blobs import BlobCache
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.config import Config
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.descriptor import Descriptor
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.platform import Platform
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.reference import Reference
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.registry.image import ResolvedImage, resolve_image
from ansible_collections.hpc.sregistry.tests.unit.plugins.module_utils.conftest import Connect, Stored

from tests.faults import Fault, FaultyRegistry, faults
from tests.lab import oci, tree

AMD64 = "linux/amd64"


class Resolver:
    """Resolves images of one registry with one cache."""

    def __init__(self, address: str, connect: Connect, directory: Path) -> None:
        self._address = address
        self._session = connect(address, retries=0)
        self.cache = BlobCache(str(directory))

    def __call__(self, image: str, platform: str = AMD64) -> ResolvedImage:
        """Follow a name."""
        reference = Reference.parse(f"{self._address}/{image}")
        return resolve_image(self._session, self.cache, reference, Platform.parse(platform))


@pytest.fixture
def resolved(stored: Stored, connect: Connect, tmp_path: Path) -> Resolver:
    """Resolve in the real registry."""
    return Resolver(stored.address, connect, tmp_path)


@pytest.fixture
def faulty_resolved(faulty: FaultyRegistry, connect: Connect, tmp_path: Path) -> Resolver:
    """Resolve in the one that does as it is told."""
    return Resolver(faulty.address, connect, tmp_path)


def foreign(architecture: str, variant: str | None = None) -> oci.Image:
    """Return an image for another platform."""
    text = tree.Tree().file("platform", f"{architecture} {variant}").tar()
    return oci.Image((oci.layer(text),), architecture=architecture, variant=variant)


def nested(*members: oci.Image | oci.Index) -> oci.Index:
    """Return an index that does not say of which platforms its members are."""
    return oci.Index(tuple((member, {}) for member in members))


def test_a_single_image_is_all_that_was_pushed(stored: Stored, resolved: Resolver) -> None:
    image = resolved("team/tiny:1.0")
    digest = oci.digest_of(stored.tiny.manifest())
    assert (image.digest, image.manifest_digest, image.media_type) == (digest, digest, oci.DOCKER_MANIFEST)
    assert [layer.digest for layer in image.layers] == [layer.digest for layer in stored.tiny.layers]
    assert image.config.diff_ids == tuple(layer.diff_id for layer in stored.tiny.layers)
    assert image.documents == {
        "manifest": json.loads(stored.tiny.manifest()),
        "config": json.loads(stored.tiny.config()),
    }
    assert image.size == sum(len(layer.blob) for layer in stored.tiny.layers)
    assert [each.received for each in image.obtained] == [len(stored.tiny.config())]


@pytest.mark.parametrize(
    ("platform", "member"), [("linux/amd64", 0), ("linux/arm64", 1), ("linux/arm64/v8", 1), ("linux/aarch64", 1)]
)
def test_an_index_is_followed_to_the_platform(platform: str, member: int, stored: Stored, resolved: Resolver) -> None:
    image = resolved("team/multi:1", platform)
    chosen = stored.multi.members[member][0].manifest()
    assert image.digest == oci.digest_of(stored.multi.manifest())
    assert image.manifest_digest == oci.digest_of(chosen)
    assert image.documents["index"] == json.loads(stored.multi.manifest())
    assert image.documents["manifest"] == json.loads(chosen)


def test_a_missing_platform_lists_those_that_exist(stored: Stored, resolved: Resolver) -> None:
    with pytest.raises(PlatformNotFound) as caught:
        resolved("team/multi:1", "linux/s390x")
    for part in (f"no linux/s390x in {stored.address}/team/multi:1", "linux/amd64, linux/arm64", "platform"):
        assert part in str(caught.value)
    assert "unknown" not in str(caught.value)


def test_a_single_image_of_another_platform_is_refused(stored: Stored, resolved: Resolver) -> None:
    stored.push("team/foreign:1", foreign("s390x"))
    with pytest.raises(PlatformNotFound, match=r"no linux/amd64 in .*team/foreign:1 \(it has linux/s390x\)"):
        resolved("team/foreign:1")
    assert resolved("team/foreign:1", "linux/s390x").config.platform == Platform.parse("linux/s390x")


def test_indexes_in_an_index_are_searched_in_their_order(stored: Stored, resolved: Resolver) -> None:
    arms = oci.index(foreign("arm64", "v8"), foreign("arm", "v7"))
    stored.push("team/nested:1", nested(arms, oci.index(stored.big), foreign("s390x")))
    members = {"linux/arm64": arms.members[0][0], "linux/arm/v7": arms.members[1][0], AMD64: stored.big}
    for platform, member in members.items():
        image = resolved("team/nested:1", platform)
        assert image.manifest_digest == oci.digest_of(member.manifest())
        assert len(image.documents["index"]["manifests"]) == 3
    assert resolved("team/nested:1", "linux/s390x").config.platform.architecture == "s390x"


def test_a_platform_that_is_in_no_nested_index_lists_all_that_exist(stored: Stored, resolved: Resolver) -> None:
    arms = oci.index(foreign("arm64", "v8"), foreign("arm", "v7"))
    stored.push("team/nested:2", nested(arms, foreign("s390x"), oci.index(stored.big)))
    with pytest.raises(PlatformNotFound, match=r"it has linux/arm64, linux/arm, linux/s390x, linux/amd64\)"):
        resolved("team/nested:2", "linux/ppc64le")


def test_indexes_that_nest_too_deep_are_refused(stored: Stored, resolved: Resolver) -> None:
    deep: oci.Image | oci.Index = stored.big
    for depth in range(1, 5):
        deep = nested(deep)
        stored.push(f"team/deep:{depth}", deep)
    assert resolved("team/deep:3").manifest_digest == oci.digest_of(stored.big.manifest())
    with pytest.raises(InvalidManifest, match="nest deeper than"):
        resolved("team/deep:4")


def test_the_config_is_kept_in_the_cache_and_proven_each_time(stored: Stored, resolved: Resolver) -> None:
    first = resolved("team/tiny:1.0")
    assert [each.received for each in resolved("team/tiny:1.0").obtained] == [0]
    Path(first.obtained[0].path).write_bytes(b" " * len(stored.tiny.config()))
    again = resolved("team/tiny:1.0")
    assert again.config == first.config
    assert [each.received for each in again.obtained] == [len(stored.tiny.config())]


def test_a_signed_schema_1_image_brings_its_config_along(
    stored: Stored, faulty: FaultyRegistry, faulty_resolved: Resolver
) -> None:
    faulty.when("/manifests/", faults.asks_for("Accept", oci.SCHEMA1))
    image = faulty_resolved("team/tiny:1.0")
    assert image.media_type == oci.SCHEMA1
    assert image.digest == image.manifest_digest != oci.digest_of(stored.tiny.manifest())
    assert [layer.digest for layer in image.layers] == [layer.digest for layer in stored.tiny.layers]
    assert image.config.document["config"]["Cmd"] == stored.tiny.settings["Cmd"]
    assert image.size is None, "schema 1 does not tell"
    assert image.documents["manifest"]["schemaVersion"] == 1
    assert faulty.asked("/blobs/") == []


def document(**changes: Any) -> bytes:
    """Return a manifest with some of its members changed; those that are None left out."""
    image = foreign("amd64")
    return json.dumps(
        {key: value for key, value in {**json.loads(image.manifest()), **changes}.items() if value is not None}
    ).encode()


MALFORMED = {
    "no JSON": b"<html></html>",
    "cut off": document()[:-20],
    "empty": b"",
    "no object": b"[]",
    "deep": b"[" * 100_000,
    "no layers": document(layers=None),
    "layers is no list": document(layers={}),
    "a layer is no object": document(layers=["x"]),
    "a layer without digest": document(layers=[{"size": 1}]),
    "a layer with a path for digest": document(layers=[{"size": 1, "digest": "sha256:../../../etc/passwd"}]),
    "a layer of negative size": document(layers=[{"size": -1, "digest": "sha256:" + 64 * "0"}]),
    "no config": document(config=None),
    "neither": b'{"schemaVersion": 2}',
    "an index of nothing": json.dumps({"schemaVersion": 2, "manifests": [None]}).encode(),
}


@pytest.mark.parametrize("content", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_manifest_names_the_image(
    content: bytes, faulty: FaultyRegistry, faulty_resolved: Resolver
) -> None:
    faulty.when("/manifests/", faults.says(content, headers={"Content-Type": oci.OCI_MANIFEST}))
    with pytest.raises(InvalidManifest, match=f"malformed manifest of {faulty.address}/team/tiny:1.0"):
        faulty_resolved("team/tiny:1.0")
    assert faulty.asked("/blobs/") == []


@pytest.mark.parametrize(
    ("pattern", "fault", "kind"),
    [
        ("/blobs/", faults.corrupted(3), DigestMismatch),
        ("/blobs/", faults.padded(b" "), DigestMismatch),
        ("/blobs/", faults.status(404), NotFound),
        ("/manifests/sha256", faults.corrupted(3), DigestMismatch),
        ("/manifests/sha256", faults.status(404), NotFound),
    ],
    ids=["config damaged", "config too long", "config missing", "member damaged", "member missing"],
)
def test_a_part_that_fails_fails_the_image_and_leaves_nothing(
    pattern: str, fault: Fault, kind: type[SregistryError], faulty: FaultyRegistry, faulty_resolved: Resolver
) -> None:
    faulty.when(pattern, fault)
    with pytest.raises(kind, match=faulty.address):
        faulty_resolved("team/multi:1")
    assert [path for path in Path(faulty_resolved.cache.directory).rglob("*") if path.is_file()] == []


def test_the_size_counts_each_layer_once() -> None:
    first, second, sizeless = (Descriptor("a", 3), Descriptor("b", 4), Descriptor("c", None))
    config = Config(Platform.parse(AMD64), None, {})
    image = ResolvedImage(Reference.parse("a/b"), "", "", "", config, (first, second, first), {})
    assert image.size == 7
    assert replace(image, layers=()).size == 0
    assert replace(image, layers=(first, sizeless)).size is None


def silent(stored: Stored) -> oci.Image:
    """Return an image whose config names no platform."""
    return oci.Image((stored.tiny.layers[0],), {"Labels": {"silent": "yes"}}, architecture="", os="")


def test_a_config_without_a_platform_has_that_of_the_index(stored: Stored, resolved: Resolver) -> None:
    image = silent(stored)
    claimed = {"platform": {"os": "linux", "architecture": "arm64"}}
    stored.push("team/silent:claimed", oci.Index(((image, claimed),)))
    assert resolved("team/silent:claimed", "linux/arm64").config.platform == Platform("linux", "arm64")


def test_an_image_that_names_no_architecture_is_refused(stored: Stored, resolved: Resolver) -> None:
    stored.push("team/silent:alone", silent(stored))
    with pytest.raises(InvalidManifest, match=r"malformed config of .*: it names no architecture"):
        resolved("team/silent:alone")
