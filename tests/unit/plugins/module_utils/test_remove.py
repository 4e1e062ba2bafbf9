# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Removing images: exactly what is meant, foretold by check mode, and nothing that is somebody else's."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from pathlib import Path

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils.blobs import BlobCache
from ansible_collections.hpc.sregistry.plugins.module_utils.change import Change
from ansible_collections.hpc.sregistry.plugins.module_utils.document import Document, File
from ansible_collections.hpc.sregistry.plugins.module_utils.errors import InventoryError, StorageError
from ansible_collections.hpc.sregistry.plugins.module_utils.inventory import Inventory
from ansible_collections.hpc.sregistry.plugins.module_utils.manifest import Descriptor
from ansible_collections.hpc.sregistry.plugins.module_utils.platform import Platform
from ansible_collections.hpc.sregistry.plugins.module_utils.remove import Wanted, prune, remove, sweep
from ansible_collections.hpc.sregistry.plugins.module_utils.selection import Choice, Search
from ansible_collections.hpc.sregistry.tests.unit.plugins.module_utils.test_inventory import (
    AMD64,
    ARM64,
    digest,
    document,
    image_file,
)


class Shelf:
    """A store with images, its inventory and a cache."""

    def __init__(self, root: Path) -> None:
        self.store = root / "store"
        self.inventory = Inventory(str(self.store / ".sregistry"))
        self.cache = BlobCache(str(root / "cache"))

    def image(self, name: str, path: str = "", content: str = "", platform: Platform = AMD64) -> Document:
        """An image with a file, which the cache keeps as well."""
        place = self.store / (path or f"{name.replace('/', '_').replace(':', '-')}.sif")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(content or name)
        one = document(name, self.file(place), platform=platform)
        self.cache.keep(str(place), f"sha256:{one.files[0].sha256}")
        self.inventory.put(one)
        return one

    @staticmethod
    def file(path: Path) -> File:
        """A file as the inventory knows it."""
        status = path.stat()
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        return dataclasses.replace(
            image_file(str(path)), size=status.st_size, mtime_ns=status.st_mtime_ns, sha256=sha256
        )

    def remove(
        self,
        *names: str,
        keep: tuple[str, ...] | None = None,
        state: str = "absent",
        platform: Platform | None = None,
        force: bool = False,
    ) -> list[Change]:
        """Remove images, first in check mode, which must foretell it."""
        choices = None if keep is not None else [Choice.parse(name) for name in names]
        kept = [Choice.parse(name) for name in keep or ()]
        wanted = Wanted(choices, kept, platform, state, force, check=True)
        before = self.left()
        foretold = remove(self.inventory, self.cache, wanted)
        assert self.left() == before
        done = remove(self.inventory, self.cache, dataclasses.replace(wanted, check=False))
        assert [(c.uri, c.action, c.before, c.after, c.more, str(c.error)) for c in foretold] == [
            (c.uri, c.action, c.before, c.after, c.more, str(c.error)) for c in done
        ]
        return done

    def left(self) -> tuple[list[str], list[str]]:
        """The names in the inventory, and the files in the store."""
        uris = [row["uri"] for row in self.inventory.rows()]
        return uris, sorted(path.name for path in self.store.rglob("*.sif"))


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """An empty store."""
    return Shelf(tmp_path)


def actions(changes: list[Change]) -> list[tuple[str | None, str]]:
    return [(change.uri, change.action) for change in changes]


@pytest.mark.parametrize(
    ("state", "action", "names", "files"),
    [
        ("absent", "removed", [], []),
        ("forgotten", "forgotten", [], ["a-1.sif"]),
        ("recorded", "unbuilt", ["library/a:1"], []),
    ],
)
def test_what_is_left_of_an_image(shelf: Shelf, state: str, action: str, names: list[str], files: list[str]) -> None:
    one = shelf.image("a:1")
    (change,) = shelf.remove("a:1", state=state)
    assert (change.changed, change.action) == (True, action)
    assert shelf.left() == (names, files)
    assert shelf.cache.keeps(f"sha256:{one.files[0].sha256}") is False
    (again,) = shelf.remove("a:1", state=state)
    assert (again.changed, again.action) == (False, "present" if state == "recorded" else "absent")


@pytest.mark.parametrize(
    ("names", "gone"),
    [
        (("a:1",), {"library/a:1"}),
        (("docker://a",), set()),
        (("a:*",), {"library/a:1", "library/a:2"}),
        (("quay.io/org/*",), {"quay.io/org/b:1"}),
        (("*:1", "a:1"), {"library/a:1", "quay.io/org/b:1", "org/c:1"}),
        (("*",), {"library/a:1", "library/a:2", "quay.io/org/b:1", "org/c:1"}),
        (("or?/c:1",), {"org/c:1"}),
        (("library/[a]:1*",), set()),
    ],
)
def test_names_and_patterns(shelf: Shelf, names: tuple[str, ...], gone: set[str]) -> None:
    for name in ("a:1", "a:2", "quay.io/org/b:1", "org/c:1"):
        shelf.image(name)
    changes = shelf.remove(*names)
    assert {change.uri for change in changes if change.changed} == gone
    assert set(shelf.left()[0]) == {"library/a:1", "library/a:2", "quay.io/org/b:1", "org/c:1"} - gone


def test_all_but_what_is_kept(shelf: Shelf) -> None:
    for name in ("a:1", "b:1", "quay.io/org/c:1", "quay.io/org/c:2"):
        shelf.image(name)
    changes = shelf.remove(keep=("a:1", "quay.io/org/*", "never-there"))
    assert actions(changes) == [("library/b:1", "removed")]
    assert shelf.remove(keep=("a:1", "quay.io/org/*", "never-there")) == []


def test_to_keep_only_what_is_not_there_needs_force(shelf: Shelf) -> None:
    for name in ("a:1", "b:1"):
        shelf.image(name)
    with pytest.raises(StorageError, match="keep holds a:l, c:1, and the inventory has none of that"):
        shelf.remove(keep=("a:l", "c:1"))
    assert shelf.left() == (["library/a:1", "library/b:1"], ["a-1.sif", "b-1.sif"])
    assert len(shelf.remove(keep=("a:l", "c:1"), force=True)) == 2
    assert shelf.remove(keep=("a:l",)) == []


def test_one_platform_of_an_image(shelf: Shelf) -> None:
    shelf.image("a:1")
    shelf.image("a:1", path="arm.sif", platform=ARM64)
    changes = shelf.remove("a:1", platform=ARM64)
    assert [change.platform for change in changes] == ["linux/arm64"]
    assert shelf.left() == (["library/a:1"], ["a-1.sif"])


def test_a_file_with_other_content_is_removed_only_with_force(shelf: Shelf) -> None:
    one = shelf.image("a:1")
    Path(one.files[0].path).write_text("precious")
    (change,) = shelf.remove("a:1")
    assert "is not the file any more that was built or added as library/a:1" in str(change.error)
    assert shelf.left() == (["library/a:1"], ["a-1.sif"])
    assert actions(shelf.remove("a:1", force=True)) == [("library/a:1", "removed")]
    assert shelf.left() == ([], [])


def test_a_file_that_was_only_touched_is_removed(shelf: Shelf) -> None:
    os.utime(shelf.image("a:1").files[0].path, (1, 1))
    assert actions(shelf.remove("a:1")) == [("library/a:1", "removed")]


def test_a_missing_file_is_no_error(shelf: Shelf) -> None:
    Path(shelf.image("a:1").files[0].path).unlink()
    (change,) = shelf.remove("a:1")
    assert (change.action, change.more["files"]) == ("removed", [])


def test_a_directory_is_never_removed(shelf: Shelf) -> None:
    path = Path(shelf.image("a:1").files[0].path)
    path.unlink()
    path.mkdir()
    (change,) = shelf.remove("a:1", force=True)
    assert "is a directory and no image" in str(change.error)
    assert path.is_dir()


def test_a_sandbox_is_removed_and_never_looked_into(shelf: Shelf) -> None:
    sandbox = shelf.store / "sandbox"
    (sandbox / ".singularity.d").mkdir(parents=True)
    inside = sandbox / "opt" / "inner.sif"
    inside.parent.mkdir()
    inside.write_text("part of the image")
    assert sweep(shelf.inventory, str(shelf.store), [], False) == []
    file = dataclasses.replace(
        image_file(str(sandbox)), sha256="", inputs={"format": "sandbox"}, builder="engine", manifest_digest=None
    )
    shelf.inventory.put(document("box:1", file))
    (change,) = shelf.remove("box:1")
    assert (change.action, change.more["files"]) == ("removed", [str(sandbox)])
    assert [path.name for path in shelf.store.iterdir()] == [".sregistry"]


def test_a_file_that_another_image_has_too_stays(shelf: Shelf) -> None:
    one = shelf.image("a:1")
    shelf.inventory.put(document("b:1", one.files[0]))
    shelf.remove("a:1")
    assert shelf.left() == (["library/b:1"], ["a-1.sif"])
    shelf.image("c:1")
    shelf.inventory.put(document("d:1", one.files[0]))
    shelf.remove("b:1", "d:1")
    assert shelf.left() == (["library/c:1"], ["c-1.sif"])


def test_what_no_image_has_is_swept(shelf: Shelf) -> None:
    shelf.image("a:1")
    for name in ("x.sif", "old/y.simg", "old/z.img", ".tmp.sif", "notes.txt"):
        path = shelf.store / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    expected = [str(shelf.store / name) for name in ("x.sif", "old/y.simg", "old/z.img")]
    for check in (True, False):
        assert sorted(sweep(shelf.inventory, str(shelf.store), [], check)) == sorted(expected)
    assert sweep(shelf.inventory, str(shelf.store), [], False) == []
    assert (shelf.store / "notes.txt").exists()
    assert shelf.left()[0] == ["library/a:1"]


def blob(cache: BlobCache, words: str) -> str:
    path = Path(cache.path(digest(words)))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(words)
    return digest(words)


def test_the_cache_keeps_what_an_image_with_a_file_needs(shelf: Shelf) -> None:
    one = shelf.image("a:1")
    shelf.inventory.put(document("only-recorded", layers=({"digest": digest("far"), "size": 3, "media_type": ""},)))
    needed = {blob(shelf.cache, "layer"), blob(shelf.cache, "manifest"), f"sha256:{one.files[0].sha256}"}
    unneeded = {blob(shelf.cache, "other"), blob(shelf.cache, "far")}
    partial = Path(shelf.cache.path(digest("other"))).with_name(".abc.partial")
    partial.write_text("left by a killed run")
    for check in (True, False):
        pruned = prune(shelf.inventory, shelf.cache, [], check)
        assert {one.what for one in pruned} == unneeded | {str(partial)}
        assert sum(one.size for one in pruned) == len("other") + len("far") + len("left by a killed run")
    left = {f"sha256:{path.name}" for path in Path(shelf.cache.directory, "blobs", "sha256").iterdir()}
    assert left == needed
    assert prune(shelf.inventory, shelf.cache, [], False) == []


def test_check_mode_of_a_prune_knows_what_the_same_run_removes(shelf: Shelf) -> None:
    one = shelf.image("a:1")
    blob(shelf.cache, "layer")
    wanted = Wanted([Choice.parse("a:1")], [], None, "absent", False, check=True)
    changes = remove(shelf.inventory, shelf.cache, wanted)
    pruned = prune(shelf.inventory, shelf.cache, changes, True)
    assert {one.what for one in pruned} == {digest("layer")}
    assert changes[0].dropped == {f"sha256:{one.files[0].sha256}"}  # the removal itself sees to it
    wanted = dataclasses.replace(wanted, check=False)
    changes = remove(shelf.inventory, shelf.cache, wanted)
    assert prune(shelf.inventory, shelf.cache, changes, False) == pruned


def test_a_cache_in_use_is_not_pruned(shelf: Shelf) -> None:
    content = b"content"
    user = BlobCache(shelf.cache.directory, shared=True)
    path = Path(user.path(f"sha256:{hashlib.sha256(content).hexdigest()}"))
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    descriptor = Descriptor(f"sha256:{path.name}", len(content))
    assert user.obtain(descriptor, lambda _offset: pytest.fail("it is cached"), "a blob").size == len(content)
    with pytest.raises(StorageError, match="another run uses the cache"):
        shelf.cache.prune((), check=False)
    assert path.exists()
    assert len(shelf.cache.prune((), check=True)) == 1
    del user
    assert len(shelf.cache.prune((), check=False)) == 1
    assert not path.exists()


def test_a_cache_that_is_not_there_needs_no_pruning(tmp_path: Path) -> None:
    assert BlobCache(str(tmp_path / "none")).prune((), check=False) == []
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ((), []),
        (("",), ["library/ubuntu:24.04", "quay.io/org/app:1"]),
        (("*",), ["library/ubuntu:24.04", "quay.io/org/app:1"]),
        (("ubu",), ["library/ubuntu:24.04"]),
        (("UBU",), ["library/ubuntu:24.04"]),
        (("24.04", "org/"), ["library/ubuntu:24.04", "quay.io/org/app:1"]),
        (("docker://quay.io/",), ["quay.io/org/app:1"]),
        (("ubu*",), []),
        (("*/ubu*",), ["library/ubuntu:24.04"]),
        (("[a-z]",), []),
    ],
)
def test_words_are_looked_for_as_sregistry_does(words: tuple[str, ...], found: list[str]) -> None:
    search = Search.of(words)
    assert [uri for uri in ("library/ubuntu:24.04", "quay.io/org/app:1") if search.finds(uri)] == found


def test_a_default_registry_belongs_to_names_and_patterns_alike() -> None:
    for text in ("app:1", "app:*"):
        choice = Choice.parse(text, "localhost:5000")
        assert choice.includes("localhost:5000/app:1")
        assert not choice.includes("library/app:1")


@pytest.mark.parametrize("spelling", ["{root}//store", "{root}/link", "{root}/store/../store/", "{root}/link/"])
def test_a_store_that_is_spelled_otherwise_is_not_swept_empty(shelf: Shelf, tmp_path: Path, spelling: str) -> None:
    shelf.image("a:1")
    (tmp_path / "link").symlink_to(shelf.store)
    for check in (True, False):
        assert sweep(shelf.inventory, spelling.format(root=tmp_path), [], check) == []
    assert shelf.left() == (["library/a:1"], ["a-1.sif"])


def test_nothing_is_swept_where_there_is_no_inventory(shelf: Shelf, tmp_path: Path) -> None:
    shelf.image("a:1")
    for check in (True, False):
        with pytest.raises(InventoryError, match="there is no inventory in"):
            sweep(Inventory(str(tmp_path / "typo")), str(shelf.store), [], check)
    assert shelf.left() == (["library/a:1"], ["a-1.sif"])


def test_what_lies_in_a_sandbox_is_not_swept(shelf: Shelf) -> None:
    shelf.image("a:1")
    (shelf.store / "dev/box/.singularity.d").mkdir(parents=True)
    (shelf.store / "dev/box/disk.img").write_text("work")
    assert sweep(shelf.inventory, str(shelf.store), [], False) == []


@pytest.mark.parametrize(
    ("pattern", "registry", "uri"),
    [
        ("docker.io/library/ubuntu:*", "docker.io", "library/ubuntu:24.04"),
        ("docker://docker.io/ubuntu:*", "docker.io", "library/ubuntu:24.04"),
        ("index.docker.io/org/*", "docker.io", "org/app:1"),
        ("docker.io/ubuntu:*", "quay.io", "library/ubuntu:24.04"),
        ("QUAY.io/org/*", "docker.io", "quay.io/org/app:1"),
        ("[::1]:5000/org/*", "docker.io", "[::1]:5000/org/app:1"),
    ],
)
def test_the_host_of_a_pattern_is_read_as_that_of_a_name(pattern: str, registry: str, uri: str) -> None:
    assert Choice.parse(pattern, registry).includes(uri)
    assert not Choice.parse(pattern, registry).includes("other.io/org/app:1")


def test_a_file_that_another_image_has_through_a_link_stays(shelf: Shelf, tmp_path: Path) -> None:
    one = shelf.image("a:1")
    (tmp_path / "link").symlink_to(shelf.store)
    path = str(tmp_path / "link" / Path(one.files[0].path).name)
    shelf.inventory.put(document("b:1", dataclasses.replace(one.files[0], path=path)))
    shelf.remove("b:1")
    assert shelf.left() == (["library/a:1"], ["a-1.sif"])


@pytest.mark.parametrize("state", ["absent", "forgotten", "recorded"])
@pytest.mark.parametrize("part", ["images", "locks"])
def test_an_inventory_that_cannot_be_written_is_the_same_error_in_check_mode(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, state: str, part: str
) -> None:
    shelf.image("a:1")
    before, real = shelf.left(), os.access
    closed = os.path.join(shelf.inventory.directory, part)
    os.makedirs(closed, exist_ok=True)
    monkeypatch.setattr(os, "access", lambda path, mode: path != closed and real(path, mode))  # root may write there
    (change,) = shelf.remove("a:1", state=state)
    assert closed in str(change.error)
    assert shelf.left() == before
