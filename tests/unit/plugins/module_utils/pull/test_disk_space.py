# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The space that a run's images need together, of each file system, and the message when it is not there."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import NoSpace
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.inventory.document import Document, File
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.blobs import BlobCache
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.descriptor import Descriptor
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.partial import partial_path
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.platform import Platform
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.reference import Reference
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.pull import disk_space
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.pull.plan import Plan
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.pull.session import Session
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.pull.sif_cache import CacheEntry
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.registry.artifact import Artifact
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.registry.image import ResolvedImage
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.registry.web import Download

AMD64 = Platform("linux", "amd64")
GZIP, TAR = "application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.oci.image.layer.v1.tar"
SIF = "application/vnd.sylabs.sif.layer.v1.sif"
NONE = cast(Any, None)  # the means that a test does not use
KIB = 1024


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def layer(name: str, size: int | None, media_type: str = GZIP) -> Descriptor:
    return Descriptor(digest_of(name.encode()), size, media_type)


class Site:
    """A cache, and a store that may be on another file system, with so much room in each."""

    def __init__(self, cache: Path, store: Path, patch: pytest.MonkeyPatch) -> None:
        self.cache = BlobCache(str(cache))
        self.store = store
        self._patch = patch

    def plan(self, name: str, *layers: Descriptor, scheme: str = "docker", **how: Any) -> Plan:
        """Return the plan of an image whose file is to be made."""
        reference = Reference.parse(f"{scheme}://host/{name}:1")
        image: Any = ResolvedImage(reference, "", "", "", cast(Any, None), layers, {})
        if scheme == "oras":
            image = Artifact(reference, "", "", "", layer("config", 2), layers[0], {})
        document = Document(reference, AMD64, "", "", "", (), None, {}, "", "", how.pop("files", ()))
        return Plan(
            image, document, str(self.store / f"{name}.sif"), **{"make": True, "lost": None, "fresh": None, **how}
        )

    def hold(self, content: bytes, partial: bool = False) -> None:
        """Put a blob, or the begin of it, into the cache."""
        path = Path(self.cache.path(digest_of(content)))
        path.parent.mkdir(parents=True, exist_ok=True)
        (Path(partial_path(str(path))) if partial else path).write_bytes(
            content[: len(content) // 2] if partial else content
        )

    def needs(self, *plans: Plan) -> int:
        """Return the least room, on each file system, with which the plans are accepted."""
        low, high = 0, 1 << 20
        while low < high:
            middle = (low + high) // 2
            if self.refusal(middle, *plans) is None:
                high = middle
            else:
                low = middle + 1
        return low

    def look(self, *plans: Plan) -> None:
        """Look for room, in check mode: what is there lies in the cache of a real run."""
        temporary = BlobCache(str(self.store / "nothing"))
        disk_space.need_disk_space(Session(NONE, temporary, NONE, AMD64, 1, True, real_cache=self.cache), plans)

    def refusal(self, free: int, *plans: Plan) -> str | None:
        """Return the message when there is so much room on each file system."""
        self._patch.setattr(disk_space, "free_space", lambda _directory: free)
        try:
            self.look(*plans)
        except NoSpace as error:
            return str(error)
        return None


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Return cache and store on one file system."""
    (tmp_path / "store").mkdir()
    return Site(tmp_path / "cache", tmp_path / "store", monkeypatch)


@pytest.fixture
def apart(small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Return the store on a file system of its own."""
    return Site(tmp_path / "cache", small_disk, monkeypatch)


def test_layers_go_into_the_cache_and_about_as_much_into_the_file(site: Site, apart: Site) -> None:
    layers = layer("a", 1000), layer("b", 200)
    assert site.needs(site.plan("one", *layers)) == 2400
    assert apart.needs(apart.plan("one", *layers)) == 1200
    assert site.needs() == 0


def test_a_layer_is_fetched_once_but_is_in_each_file(site: Site) -> None:
    base = layer("base", 1000)
    assert site.needs(site.plan("one", base, layer("a", 10)), site.plan("two", base, layer("b", 20), base)) == 3060


def test_what_the_cache_has_is_not_fetched(site: Site) -> None:
    whole, begun = b"w" * 1000, b"b" * 1000
    site.hold(whole)
    site.hold(begun, partial=True)
    image = site.plan("one", layer(whole.decode(), 1000), layer(begun.decode(), 1000))
    assert site.needs(image) == 500 + 2000


def test_a_layer_that_is_not_compressed_becomes_smaller_and_one_of_unknown_size_refuses_nothing(apart: Site) -> None:
    site = apart
    site.hold(b"t" * 3000)
    assert site.needs(site.plan("one", layer("t" * 3000, 3000, TAR), layer("old", None, ""))) == 1000


def test_files_are_made_one_after_the_other_so_that_room_of_replaced_ones_counts_later(apart: Site) -> None:
    plans = []
    for name in ("one", "two", "three"):
        apart.hold(name.encode() * 1000)
        (apart.store / f"{name}.sif").write_bytes(bytes(2900))
        plans.append(apart.plan(name, layer(name * 1000, len(name) * 1000)))
    # 3000 for one, then 3000 - 2900 + 3000 for two, then 2 * 100 + 5000 for three
    assert apart.needs(*plans) == 5200
    os.link(apart.store / "one.sif", apart.store / "somebody's.sif")
    assert apart.needs(*plans) == 5200 + 2900


def test_the_cache_lets_go_of_the_file_that_an_image_had(apart: Site) -> None:
    path = apart.store / "one.sif"
    path.write_bytes(bytes(2900))
    os.link(path, apart.store / "kept")
    file = File(str(path), 2900, 1, "5" * 64, "", {}, "", "", "", "")
    apart.hold(b"1" * 3000)
    apart.hold(b"2" * 3000)
    plans = [apart.plan("one", layer("1" * 3000, 3000), files=(file,)), apart.plan("two", layer("2" * 3000, 3000))]
    assert apart.needs(*plans) == 3100


def test_what_is_not_made_or_comes_back_needs_nothing(site: Site) -> None:
    content = b"a finished file"
    site.hold(content)
    lost = File(str(site.store / "one.sif"), 15, 1, digest_of(content)[7:], "", {}, "", "", "", "")
    assert site.needs(site.plan("one", layer("a", 1000), lost=lost)) == 0
    assert site.needs(site.plan("one", layer("a", 1000), make=False)) == 0
    assert site.needs(site.plan("one", layer("a", 1000), lost=replace(lost, sha256="0" * 64))) == 2000


def test_a_finished_file_is_there_once_on_one_file_system_and_twice_on_two(site: Site, apart: Site) -> None:
    content = b"s" * 1000
    sif = layer(content.decode(), 1000, SIF)
    assert site.needs(site.plan("one", sif, scheme="oras")) == 1000
    assert apart.refusal(999, apart.plan("one", sif, scheme="oras")) is not None
    site.hold(content)
    assert site.needs(site.plan("one", sif, scheme="oras")) == 0
    assert apart.needs(apart.plan("one", sif, scheme="oras")) == 1000
    os.link(site.cache.path(sif.digest), site.store / "in use")  # then it is copied
    assert site.needs(site.plan("one", sif, scheme="oras")) == 1000


def test_what_somebody_else_has_built_is_fetched_instead_of_the_layers(site: Site) -> None:
    plan = site.plan("one", layer("a", 5000))
    artifact = site.plan("cached", layer("sif", 1000, SIF), scheme="oras").image
    assert site.needs(replace(plan, entry=CacheEntry(cast(Artifact, artifact), NONE, None))) == 1000


def test_a_file_of_a_web_server_counts_as_far_as_its_size_is_told(site: Site) -> None:
    plan = site.plan("one", layer("a", 1))
    for size, needed in ((1000, 1000), (None, 0)):
        told = {"size": size} if size else {}
        image = Download(Reference.parse("https://host/one.sif"), "", told)
        assert site.needs(replace(plan, image=image)) == needed


def test_the_error_names_directories_sizes_and_the_largest_image(site: Site, apart: Site) -> None:
    one, two = site.plan("one", layer("a", 3 * KIB)), site.plan("two", layer("b", 5 * KIB))
    cache, store = site.cache.directory, site.store
    rest = "Nothing was fetched; free some, choose other directories, or pull fewer images"
    assert site.refusal(7 * KIB, one, two) == (
        f"no space left in {cache} and {store}: needs 16.0 KiB, has 7.0 KiB; of 2 images the largest is host/two:1 "
        f"with 10.0 KiB. {rest}"
    )
    assert site.refusal(KIB, one) == f"no space left in {cache} and {store}: needs 6.0 KiB, has 1.0 KiB. {rest}"
    assert apart.refusal(KIB, apart.plan("one", layer("a", 3 * KIB))) == (
        f"no space left in {cache}: needs 3.0 KiB, has 1.0 KiB; and in {apart.store}: needs 3.0 KiB, "
        f"has 1.0 KiB. {rest}"
    )


def test_a_real_file_system_is_asked_for_what_is_free(small_disk: Path, tmp_path: Path) -> None:
    site = Site(tmp_path / "cache", small_disk, NONE)
    site.look(site.plan("one", layer("a", 900 * KIB)))
    with pytest.raises(NoSpace, match=rf"no space left in {small_disk}: needs 1.1 MiB, has 1.0 MiB. Nothing was"):
        site.look(site.plan("one", layer("a", 1100 * KIB)))
