# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Places in the cache by what a file is made of; what is found there is what was put there."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import (
    DigestMismatch,
    InvalidManifest,
    RegistryError,
)
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.inventory.document import Document, File
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.blobs import BlobCache
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.platform import Platform
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.reference import Reference
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.pull.sif_cache import CacheKey, SifCache
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.registry.image import (
    contents,
    resolve_image,
    restore,
)
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.registry.location import Location
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.registry.pool import Registries
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.registry.ranges import DownloadSlots
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.sif.toolchain import sif_inputs
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.transport.keychain import Keychain
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.transport.options import Transport
from ansible_collections.hpc.sregistry.tests.unit.plugins.module_utils.conftest import Connect, Stored

from tests.faults import Fault, FaultyRegistry, faults

AMD64 = Platform.parse("linux/amd64")
INPUTS = sif_inputs("entrypoint", "zstd", 3, True, "apptainer")
DIGEST = f"sha256:{'a' * 64}"
KEY = CacheKey(Reference.parse("quay.io/org/app:1.0"), DIGEST, AMD64, INPUTS)
CONTENT = b"a SIF" * 100_000


@pytest.mark.parametrize(
    "other",
    [
        replace(KEY, image=Reference.parse("quay.io/org/app:1.1")),
        replace(KEY, image=Reference.parse("quay.io/other/app:1.0")),
        replace(KEY, image=Reference.parse("ghcr.io/org/app:1.0")),
        replace(KEY, manifest_digest=f"sha256:{'b' * 64}"),
        replace(KEY, platform=Platform.parse("linux/arm64")),
        replace(KEY, inputs=sif_inputs("cmd", "zstd", 3, True, "apptainer")),
        replace(KEY, inputs=sif_inputs("entrypoint", "gzip", 3, True, "apptainer")),
        replace(KEY, inputs=sif_inputs("entrypoint", "zstd", 4, True, "apptainer")),
        replace(KEY, inputs=sif_inputs("entrypoint", "zstd", 3, False, "apptainer")),
        replace(KEY, inputs=sif_inputs("entrypoint", "zstd", 3, True, "singularity-ce")),
    ],
)
def test_whatever_makes_another_file_makes_another_tag(other: CacheKey) -> None:
    assert other.tag != KEY.tag


def test_the_tag_is_the_same_for_ever() -> None:
    """If this fails, all caches of all users become worthless with the next release."""
    shuffled = dict(reversed(list(INPUTS.items())))
    assert replace(KEY, inputs=shuffled).tag == KEY.tag
    assert KEY.tag == "sif-96240e8697f3cd92a80532cc33f4dcd9e599f2f9d5a1e1fe1077ec844250b92d"


@pytest.mark.parametrize(
    ("place", "image", "expected"),
    [
        ("cache.example.org/sif", "ubuntu:22.04", "oras://cache.example.org/sif/docker.io/library/ubuntu"),
        ("cache.example.org", "quay.io/org/app:1", "oras://cache.example.org/quay.io/org/app"),
        ("http://10.0.0.1:5000/a/b", "host:5000/x:1", "oras://10.0.0.1:5000/a/b/host-5000/x"),
        ("cache.example.org/sif", "[::1]:5000/x:1", "oras://cache.example.org/sif/1-5000/x"),
    ],
)
def test_an_entry_has_a_name_that_every_registry_takes(place: str, image: str, expected: str) -> None:
    location = Location.parse(place, "sif_cache")
    cache = SifCache(location, None, DownloadSlots(1), False, False)  # type: ignore[arg-type]
    key = replace(KEY, image=Reference.parse(image))
    name = cache.reference(key).uri
    assert name == f"{expected}:{key.tag}"
    assert Reference.parse(name).uri == name


class Case:
    """A cache at a prefix of its own, and a file of ``team/multi`` to put there."""

    def __init__(self, stored: Stored, address: str, connect: Connect, directory: Path) -> None:
        origin = connect(stored.address)
        self.blobs = BlobCache(str(directory / "cache"))
        self.reference = Reference.parse(f"{stored.address}/team/multi:1")
        self.image = resolve_image(origin, self.blobs, self.reference, AMD64)
        self.contents = self.image.contents
        self.texts = {name: content.decode() for name, content in self.contents.items()}
        path = directory / "image.sif"
        path.write_bytes(CONTENT)
        sha256 = hashlib.sha256(CONTENT).hexdigest()
        self.file = replace(
            File.at(str(path), sha256, INPUTS),
            manifest_digest=self.image.manifest_digest,
            engine_version="1.4.5",
            packer="mksquashfs 4.6.1",
            builder="stream",
        )
        self.document = Document(
            reference=self.reference,
            platform=AMD64,
            digest=self.image.digest,
            manifest_digest=self.image.manifest_digest,
            media_type=self.image.media_type,
            layers=(),
            size=self.image.size,
            metrics=self.image.documents,
            created_at="2026-01-01T00:00:00Z",
            updated_at="2026-01-01T00:00:00Z",
        )
        self.key = CacheKey(self.reference, self.image.manifest_digest, AMD64, INPUTS)
        location = Location.parse(f"http://{address}/sif-{uuid.uuid4().hex}", "sif_cache")
        self.cache = SifCache(location, connect(address, retries=0), DownloadSlots(4), fills=True, required=False)


@pytest.fixture
def case(stored: Stored, connect: Connect, tmp_path: Path) -> Case:
    return Case(stored, stored.address, connect, tmp_path)


def test_what_was_put_there_is_found_with_all_that_is_known_of_it(case: Case) -> None:
    assert case.cache.get([case.key]) is None
    assert not case.cache.has(case.key)
    assert case.cache.put(case.key, case.document, case.file, case.contents)
    assert case.cache.has(case.key)
    other = replace(case.key, platform=Platform.parse("linux/arm64"))
    entry = case.cache.get([other, case.key])
    assert entry is not None
    assert entry.key == case.key
    assert entry.provenance is not None
    assert (entry.provenance.engine_version, entry.provenance.packer) == ("1.4.5", "mksquashfs 4.6.1")
    assert dict(entry.provenance.inputs) == INPUTS
    obtained = case.blobs.obtain(entry.artifact.layer, case.cache.source(entry), "it")
    assert Path(obtained.path).read_bytes() == CONTENT


def test_a_second_time_nothing_is_sent(case: Case) -> None:
    assert case.cache.put(case.key, case.document, case.file, case.contents)
    assert not case.cache.put(case.key, case.document, case.file, case.contents)


def test_an_image_can_be_told_from_the_cache_alone(case: Case) -> None:
    case.cache.put(case.key, case.document, case.file, case.contents)
    entry = case.cache.get([case.key])
    assert entry is not None
    told = case.cache.documents(entry, case.blobs)
    assert told == case.texts
    again = restore(case.reference, case.image.digest, case.image.manifest_digest, told, AMD64)
    assert replace(again, obtained=()) == replace(case.image, obtained=())


@pytest.mark.parametrize(
    "wrong",
    [
        {"index": None},
        {"manifest": None},
        {"config": None},
        {"config": []},
        {"index": "{}"},
        {"manifest": "\ud800"},
        {"config": '{"architecture": "amd64", "os": "linux", "config": {"Labels": {"a": "{{ evil }}"}}}'},
    ],
    ids=str,
)
def test_documents_that_their_digests_do_not_prove_are_refused(case: Case, wrong: dict[str, Any]) -> None:
    told = {**case.texts, **wrong}
    with pytest.raises(DigestMismatch, match="is missing there, or another one"):
        restore(case.reference, case.image.digest, case.image.manifest_digest, told, AMD64)


def test_documents_are_fetched_again_as_they_were_resolved(case: Case, stored: Stored, connect: Connect) -> None:
    digests = case.image.digest, case.image.manifest_digest
    assert contents(connect(stored.address), case.blobs, case.reference, *digests) == case.contents


def test_a_manifest_may_be_all_that_a_name_points_at(case: Case) -> None:
    digest = case.image.manifest_digest
    alone = {name: text for name, text in case.texts.items() if name != "index"}
    assert restore(case.reference, digest, digest, alone, AMD64).layers == case.image.layers


def test_a_file_that_is_another_one_by_now_is_not_put_there(case: Case) -> None:
    Path(case.file.path).write_bytes(CONTENT[:-1] + b"!")
    with pytest.raises(DigestMismatch, match="is another one; push it again"):
        case.cache.put(case.key, case.document, case.file, case.contents)
    assert not case.cache.has(case.key)


def test_what_is_no_sif_is_none(case: Case, stored: Stored) -> None:
    name = case.cache.reference(case.key)
    stored.push(f"{name.repository}:{name.tag}", stored.tiny)
    with pytest.raises(InvalidManifest, match="is not a SIF file but a container image"):
        case.cache.get([case.key])


@pytest.mark.parametrize(
    ("trouble", "told"), [(faults.dropped(), "no answer from"), (faults.status(503), "failed to serve")]
)
def test_a_cache_that_is_out_is_asked_once(
    stored: Stored, faulty: FaultyRegistry, connect: Connect, tmp_path: Path, trouble: Fault, told: str
) -> None:
    case = Case(stored, faulty.address, connect, tmp_path)
    faulty.calm()
    faulty.when("/manifests/", trouble)
    words = set()
    for digit in "abc":
        with pytest.raises(RegistryError, match=told) as raised:
            case.cache.get([replace(case.key, manifest_digest=f"sha256:{digit * 64}")])
        words.add(str(raised.value))
    assert len(faulty.asked("/manifests/")) == 1
    assert len(words) == 1, "so that it can be told once"


def test_a_mirror_of_the_cache_is_asked_first_and_never_written_to(
    stored: Stored, faulty: FaultyRegistry, connect: Connect, tmp_path: Path
) -> None:
    case = Case(stored, stored.address, connect, tmp_path)
    location = Location.parse(f"http://{stored.address}/sif-{uuid.uuid4().hex}", "sif_cache")
    mirrors = {stored.address: [Location.parse(f"http://{faulty.address}", "mirror")]}
    registries = Registries(Keychain(), Transport(http=True, timeout=20.0, retries=0), mirrors)
    cache = SifCache(location, registries.at(location, ()), DownloadSlots(4), fills=True, required=False)
    assert cache.put(case.key, case.document, case.file, case.contents)
    assert not faulty.requests
    entry = cache.get([case.key])
    assert entry is not None
    case.blobs.obtain(entry.artifact.layer, cache.source(entry), "it")
    assert [one.method for one in faulty.requests] == ["GET", "GET"]
    faulty.when("/", faults.status(503))
    assert cache.get([case.key]) is not None, "the registry itself has it"
    assert [warning for warning in cache.warnings() if "status 503" in warning]
    assert not cache.warnings(), "told once"
    registries.close()
