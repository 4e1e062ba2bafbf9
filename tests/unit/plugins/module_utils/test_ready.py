# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A finished file from the cache into its place: what it shares, what is refused, and what stays as it was."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any, cast

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils.artifact import Artifact
from ansible_collections.hpc.sregistry.plugins.module_utils.blobs import BlobCache, Obtained
from ansible_collections.hpc.sregistry.plugins.module_utils.errors import (
    DigestMismatch,
    InvalidSif,
    PlatformNotFound,
    Unsigned,
)
from ansible_collections.hpc.sregistry.plugins.module_utils.manifest import Descriptor
from ansible_collections.hpc.sregistry.plugins.module_utils.platform import Platform
from ansible_collections.hpc.sregistry.plugins.module_utils.ready import Fetched, Placed, Shipment
from ansible_collections.hpc.sregistry.plugins.module_utils.reference import Reference
from ansible_collections.hpc.sregistry.plugins.module_utils.session import Outcome, Session
from ansible_collections.hpc.sregistry.tests.unit.plugins.module_utils.test_sif import written

AMD64 = Platform("linux", "amd64")
NAME = Reference.parse("oras://host/org/app:1")
SIF = written()


class Case:
    """A cache with a file in it, and a shipment that places this file."""

    def __init__(self, directory: Path, content: bytes = SIF, algorithm: str = "sha256") -> None:
        self.digest = f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"
        self.cache = BlobCache(str(directory / "cache"))
        self.blob = Path(self.cache.path(self.digest))
        self.blob.parent.mkdir(parents=True)
        self.place = directory / "store" / "image.sif"
        self._content = content
        self.put(content)
        self.fetches = 0

    def put(self, content: bytes) -> None:
        """Put something where the blob lies."""
        self.blob.write_bytes(content)
        self.blob.chmod(0o600)

    def shipment(self, again: bytes | None = None) -> Shipment:
        """One that fetches the right content, or other content, again."""
        layer = Descriptor(self.digest, len(self._content), "application/vnd.sylabs.sif.layer.v1.sif")
        image = Artifact(NAME, "sha256:0", "", "sha256:0", layer, {})
        session = Session(cast(Any, None), self.cache, cast(Any, None), AMD64, 1)

        class Again(Shipment):
            """Without a registry."""

            def _fetch(shipment) -> Fetched:  # noqa: N805
                self.fetches += 1
                self.put(self._content if again is None else again)
                return self.fetched

        return Again(session, image, Outcome(NAME, AMD64))

    @property
    def fetched(self) -> Fetched:
        """The blob, whatever is in it by now."""
        return Fetched(self.digest, Obtained(str(self.blob), len(self._content), 0))

    def into_place(self, prepare: Any = lambda _path: None, again: bytes | None = None) -> Placed:
        """Place it."""
        return self.shipment(again).place(self.fetched, str(self.place), prepare)

    @property
    def store(self) -> list[str]:
        """All names beside the place."""
        return sorted(os.listdir(self.place.parent))


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_file_is_another_name_of_the_one_in_the_cache(tmp_path: Path, algorithm: str) -> None:
    case = Case(tmp_path, algorithm=algorithm)
    placed = case.into_place()
    assert placed == Placed(len(SIF), hashlib.sha256(SIF).hexdigest(), case.digest)
    assert case.place.samefile(case.blob)
    assert case.store == ["image.sif"]


def test_two_places_share_nothing(tmp_path: Path) -> None:
    case = Case(tmp_path)
    case.into_place()
    first, case.place = case.place, case.place.with_name("second.sif")
    case.into_place()
    assert not case.place.samefile(first)
    assert case.place.read_bytes() == SIF
    assert case.place.stat().st_mode & 0o111 == first.stat().st_mode & 0o111 != 0


def test_what_is_damaged_in_the_cache_is_fetched_again(tmp_path: Path) -> None:
    case = Case(tmp_path)
    case.put(SIF[:-1] + b"?")
    case.into_place()
    assert case.place.read_bytes() == SIF
    assert case.fetches == 1


def test_what_is_damaged_again_is_not_placed(tmp_path: Path) -> None:
    case = Case(tmp_path)
    case.put(SIF[:-1] + b"?")
    with pytest.raises(DigestMismatch, match="damaged in the cache, again and again"):
        case.into_place(again=SIF[:-1] + b"!")
    assert case.store == []


@pytest.mark.parametrize("linked", [True, False])
def test_who_refuses_a_file_leaves_all_as_it_was(tmp_path: Path, linked: bool) -> None:
    case = Case(tmp_path)
    if not linked:
        os.link(case.blob, tmp_path / "other")
    case.place.parent.mkdir()
    case.place.write_bytes(b"before")
    seen: list[bytes] = []

    def refuse(path: str) -> None:
        seen.append(Path(path).read_bytes())
        raise Unsigned("no signatures found")

    with pytest.raises(Unsigned):
        case.into_place(refuse)
    assert seen == [SIF]
    assert case.place.read_bytes() == b"before"
    assert case.store == ["image.sif"]


@pytest.mark.parametrize(
    ("content", "kind", "why"),
    [
        (b"<html>" * 100, InvalidSif, "is no sound SIF file: what was sent is no SIF image (600 B of application/vnd"),
        (SIF[:-1], InvalidSif, "is no sound SIF file: what was sent is truncated"),
        (
            written(architecture="arm64"),
            PlatformNotFound,
            "no linux/amd64 in oras://host/org/app:1 (it has linux/arm64)",
        ),
    ],
)
def test_what_is_no_sif_of_the_platform_is_not_placed(
    tmp_path: Path, content: bytes, kind: type[Exception], why: str
) -> None:
    case = Case(tmp_path, content)
    with pytest.raises(kind) as error:
        case.into_place()
    assert why in str(error.value)
    assert str(tmp_path) not in str(error.value)
    assert case.store == []
