# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The origin of a file, as annotations and back."""

from __future__ import annotations

import dataclasses

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.inventory.document import Document, File
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.inventory.provenance import Provenance
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.platform import Platform
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.reference import Reference

INDEX, MANIFEST, OTHER = (f"sha256:{character * 64}" for character in "abc")
FILE = File(
    path="/images/solver.sif",
    size=4096,
    mtime_ns=1,
    sha256="1" * 64,
    manifest_digest=MANIFEST,
    inputs={"compression": "zstd", "level": "9", "verified": "sha256:mark"},
    engine_version="apptainer 1.4.5",
    packer="mksquashfs 4.6.1",
    builder="stream",
    created_at="2026-01-01T00:00:00Z",
)
DOCUMENT = Document(
    reference=Reference.parse("ubuntu:24.04"),
    platform=Platform.parse("linux/arm64"),
    digest=INDEX,
    manifest_digest=MANIFEST,
    media_type="application/vnd.oci.image.index.v1+json",
    layers=(),
    size=1,
    metrics={},
    created_at="2026-01-01T00:00:00Z",
    updated_at="2026-01-01T00:00:00Z",
    files=(FILE,),
)


def test_what_is_known_of_a_file_becomes_annotations() -> None:
    assert Provenance.of(DOCUMENT, FILE).annotations == {
        "hpc.sregistry.builder": "stream",
        "hpc.sregistry.digest": INDEX,
        "hpc.sregistry.engine-version": "apptainer 1.4.5",
        "hpc.sregistry.input.compression": "zstd",
        "hpc.sregistry.input.level": "9",
        "hpc.sregistry.manifest-digest": MANIFEST,
        "hpc.sregistry.name": "library/ubuntu:24.04",
        "hpc.sregistry.packer": "mksquashfs 4.6.1",
        "hpc.sregistry.platform": "linux/arm64",
        "org.opencontainers.image.base.digest": INDEX,
        "org.opencontainers.image.base.name": "docker.io/library/ubuntu:24.04",
    }


def test_annotations_do_not_depend_on_when_or_where_the_file_was_made() -> None:
    later = dataclasses.replace(FILE, path="/elsewhere", mtime_ns=2, created_at="2027-01-01T00:00:00Z")
    after = dataclasses.replace(DOCUMENT, created_at="2027-01-01T00:00:00Z", updated_at="2027-01-01T00:00:00Z")
    first, second = Provenance.of(DOCUMENT, FILE).annotations, Provenance.of(after, later).annotations
    assert list(first.items()) == list(second.items())


def test_a_name_that_points_elsewhere_by_now_does_not_tell_what_it_pointed_at() -> None:
    told = Provenance.of(dataclasses.replace(DOCUMENT, digest=OTHER, manifest_digest=OTHER), FILE)
    assert (told.digest, told.manifest_digest) == (None, MANIFEST)
    assert OTHER not in told.annotations.values()


@pytest.mark.parametrize(
    ("name", "url", "digest", "expected"),
    [
        ("tools/solver:1", "docker://docker.io/library/ubuntu:24.04", INDEX, "library/ubuntu:24.04"),
        ("oras://host:5000/a/b:1", None, INDEX, "oras://host:5000/a/b:1"),
        ("https://host/a/b.sif", None, INDEX, "https://host/a/b.sif"),
        ("tools/solver:1", "some words of another tool", INDEX, "tools/solver:1"),
        ("tools/solver:1", "/home/somebody/solver.def", None, "tools/solver:1"),
        ("build://localhost/home/somebody/solver.sif:latest", "", None, None),
    ],
)
def test_the_name_is_that_of_the_origin_and_no_path(
    name: str, url: str | None, digest: str | None, expected: str | None
) -> None:
    document = dataclasses.replace(DOCUMENT, reference=Reference.parse_known(name), url=url, digest=digest)
    assert Provenance.of(document, FILE).name == expected


def test_only_what_a_registry_has_is_a_base() -> None:
    web = dataclasses.replace(DOCUMENT, reference=Reference.parse("https://host/a/b.sif"))
    local = Document.local(Reference.parse("tools/solver:1"), DOCUMENT.platform)
    built = dataclasses.replace(FILE, manifest_digest=None, engine_version=None, packer=None, builder=None)
    for provenance in (Provenance.of(web, FILE), Provenance.of(local, built)):
        assert not [key for key in provenance.annotations if key.startswith("org.opencontainers.")]
    assert set(Provenance.of(local, built).annotations) == {
        "hpc.sregistry.name",
        "hpc.sregistry.platform",
        "hpc.sregistry.input.compression",
        "hpc.sregistry.input.level",
    }


@pytest.mark.parametrize("document", [DOCUMENT, Document.local(Reference.parse("tools/a:1"), DOCUMENT.platform)])
def test_annotations_are_read_back(document: Document) -> None:
    provenance = Provenance.of(document, FILE)
    assert Provenance.parse({"of.somebody.else": "1", **provenance.annotations}) == provenance


@pytest.mark.parametrize(
    "changed",
    [
        {"hpc.sregistry.platform": None},
        {"hpc.sregistry.platform": "linux"},
        {"hpc.sregistry.digest": "sha256:short"},
        {"hpc.sregistry.manifest-digest": "md5:1"},
        {"hpc.sregistry.name": "Not A Name"},
        {"hpc.sregistry.name": "ubuntu"},
        {"hpc.sregistry.input.level": 9},
    ],
)
def test_what_is_malformed_or_not_ours_says_nothing(changed: dict[str, object]) -> None:
    annotations = {**Provenance.of(DOCUMENT, FILE).annotations, **changed}
    assert Provenance.parse({key: value for key, value in annotations.items() if value is not None}) is None
    assert Provenance.parse({}) is None
