# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Removing images: exactly what is meant, foretold by check mode, and nothing that is somebody else's."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import (
    InvalidImage,
    InventoryError,
    StorageError,
)
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.fs import stale
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.inventory import scan
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.inventory.database import Inventory
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.inventory.document import Document
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.inventory.holding import hold_all
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.inventory.links import Places
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.inventory.selector import Selector, WordSearch
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.manage import remove as use_case
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.manage.remove import (
    RemoveOutcome,
    RemoveRequest,
    remove,
)
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.manage.sweep import prune_cache, sweep_store
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.blobs import BlobCache
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.descriptor import Descriptor
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.platform import Platform
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.prune import prune
from ansible_collections.hpc.sregistry.tests.unit.plugins.module_utils.documents import (
    AMD64,
    ARM64,
    digest,
    document,
    file_there,
    image_file,
)

from tests.lab.shelf import LAUNCH, ext_bytes, sif_bytes, squashfs_bytes, write


class Shelf:
    """A store with images, its inventory and a cache."""

    def __init__(self, root: Path) -> None:
        self.store = root / "store"
        self.links: tuple[str, ...] = ()
        self.inventory = Inventory(str(self.store / ".sregistry"))
        self.cache = BlobCache(str(root / "cache"))

    def image(self, name: str, path: str = "", content: str = "", platform: Platform = AMD64) -> Document:
        """Add an image with a file, which the cache keeps as well."""
        place = self.store / (path or f"{name.replace('/', '_').replace(':', '-')}.sif")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(sif_bytes(content or name))
        one = document(name, file_there(place), platform=platform)
        self.cache.keep(str(place), f"sha256:{one.files[0].sha256}")
        self.inventory.put(one)
        return one

    def remove(
        self,
        *names: str,
        keep: tuple[str, ...] | None = None,
        state: str = "absent",
        platform: Platform | None = None,
        force: bool = False,
    ) -> list[RemoveOutcome]:
        """Remove images, first in check mode, which must foretell it."""
        choices = None if keep is not None else [Selector.parse(name) for name in names]
        kept = [Selector.parse(name) for name in keep or ()]
        wanted = RemoveRequest(choices, kept, platform, state, force, check=True, places=self.places())
        before = self.left()
        foretold = remove(self.inventory, self.cache, wanted)
        assert self.left() == before
        done = remove(self.inventory, self.cache, dataclasses.replace(wanted, check=False))
        assert [(c.to_result(c.name), c.to_diff()) for c in foretold] == [
            (c.to_result(c.name), c.to_diff()) for c in done
        ]
        return done

    def places(self, store: Path | str = "") -> Places:
        """Return the places where symlinks are looked for."""
        return Places(str(store or self.store), self.inventory.directory, self.links)

    def sweep(self, store: Path | str = "", removed: Sequence[RemoveOutcome] = ()) -> tuple[list[str], list[str]]:
        """Sweep a store, first in check mode, which must foretell it: what is gone, and what stays unrecognised."""
        before = self.left()
        foretold = sweep_store(self.inventory, self.places(store), removed, True)
        assert self.left() == before
        done = sweep_store(self.inventory, self.places(store), removed, False)
        assert foretold == done
        assert sweep_store(self.inventory, self.places(store), removed, False).gone == []
        return [os.path.relpath(path, store or self.store) for path in done.gone], [
            os.path.relpath(path, store or self.store) for path in done.strangers
        ]

    def left(self) -> tuple[list[str], list[str]]:
        """Return the names in the inventory, and the files in the store."""
        uris = [row["reference"] for row in self.inventory.rows()]
        return uris, sorted(path.name for path in self.store.rglob("*.sif"))


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """Return an empty store."""
    return Shelf(tmp_path)


def actions(changes: list[RemoveOutcome]) -> list[tuple[str | None, str]]:
    return [(change.reference.uri if change.reference else None, change.action) for change in changes]


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
    assert {str(change.reference) for change in changes if change.changed} == gone
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
    assert [change.platform for change in changes] == [ARM64]
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
    assert (change.action, change.files) == ("removed", [])


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
    assert shelf.sweep() == ([], [])
    file = dataclasses.replace(
        image_file(str(sandbox)), sha256="", inputs={"format": "sandbox"}, builder="engine", manifest_digest=None
    )
    shelf.inventory.put(document("box:1", file))
    (change,) = shelf.remove("box:1")
    assert (change.action, change.files) == ("removed", [str(sandbox)])
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


# Each leads, from the directory of the store, to the file of solver:1, which is solver-1.sif, or not.
LINKS = [
    pytest.param(("solver.sif", "solver-1.sif", True), id="beside it"),
    pytest.param(("solver.sif", "{store}/solver-1.sif", True), id="absolute"),
    pytest.param(("team/deep/solver", "../../solver-1.sif", True), id="deep in the store, by any name"),
    pytest.param(("../given", "store/solver-1.sif", True), id="outside, given itself"),
    pytest.param(("../links/solver", "../store/solver-1.sif", True), id="outside, in a given directory"),
    pytest.param(("../links/deep/solver", "../../store/solver-1.sif", False), id="outside, below a given directory"),
    pytest.param(("../other/solver", "../store/solver-1.sif", False), id="outside, not given"),
    pytest.param(("solver.sif", "solver-2.sif", False), id="to another file"),
    pytest.param(("team", ".", False), id="to its directory"),
    pytest.param(("box/.singularity.d/solver", "../../solver-1.sif", False), id="in a sandbox"),
    pytest.param(("solver.sif", "solver.sif", False), id="endless"),
]


@pytest.fixture
def linking(shelf: Shelf, request: pytest.FixtureRequest) -> Shelf:
    """Return a store with two versions of an image, and a symlink."""
    shelf.image("solver:1")
    shelf.image("solver:2")
    link, target, _leads = request.param
    path = Path(os.path.normpath(shelf.store / link))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target.format(store=shelf.store))
    shelf.links = (str(shelf.store.parent / "given"), str(shelf.store.parent / "links"), "/not/there")
    return shelf


@pytest.mark.parametrize("linking", LINKS, indirect=True)
@pytest.mark.parametrize("state", ["absent", "recorded", "forgotten"])
def test_a_file_that_a_symlink_leads_to_stays(linking: Shelf, state: str, request: pytest.FixtureRequest) -> None:
    leads = request.node.callspec.params["linking"][2] and state != "forgotten"
    (change,) = linking.remove(keep=("solver:2",), state=state)
    assert (change.action == "kept", bool(change.warnings)) == (leads, leads)
    assert (linking.store / "solver-1.sif").exists() == (leads or state == "forgotten")
    if leads:
        assert (change.changed, change.error, linking.left()[0]) == (
            False,
            None,
            ["library/solver:1", "library/solver:2"],
        )
        (change,) = linking.remove("*:1", state=state)
        assert change.action == "kept"
        (change,) = linking.remove("solver:1", state=state)
        assert "would lead to nothing" in str(change.error)
        (change,) = linking.remove("solver:1", state=state, force=True)
        assert (change.action in ("removed", "unbuilt"), (linking.store / "solver-1.sif").exists()) == (True, False)


@pytest.mark.parametrize("linking", LINKS, indirect=True)
def test_a_file_that_a_symlink_leads_to_is_not_swept(linking: Shelf, request: pytest.FixtureRequest) -> None:
    leads = request.node.callspec.params["linking"][2]
    linking.remove("solver:1", state="forgotten")
    gone, strangers = linking.sweep()
    assert (gone, strangers) == ([] if leads else ["solver-1.sif"], [])


def test_a_chain_of_symlinks_is_followed_and_none_that_goes_itself_counts(shelf: Shelf) -> None:
    shelf.image("solver:1", "v1/solver.sif")
    (shelf.store / "current").symlink_to("v1")
    (shelf.store / "solver.sif").symlink_to("current/solver.sif")
    (change,) = shelf.remove(keep=(), force=True)
    assert change.action == "kept"
    aliased = dataclasses.replace(file_there(shelf.store / "v1" / "solver.sif"), path=str(shelf.store / "solver.sif"))
    shelf.inventory.put(document("alias:1", aliased))
    changes = shelf.remove(keep=(), force=True)
    assert [change.action for change in changes] == ["removed", "removed"]
    assert shelf.left()[1] == []


def test_what_a_kept_image_needs_stays_too(shelf: Shelf) -> None:
    shelf.image("solver:1")
    aliased = dataclasses.replace(file_there(shelf.store / "solver-1.sif"), path=str(shelf.store / "alias.sif"))
    (shelf.store / "alias.sif").symlink_to("solver-1.sif")
    shelf.inventory.put(document("alias:1", aliased))
    (shelf.store / "use").symlink_to("alias.sif")
    changes = shelf.remove(keep=(), force=True)
    assert [change.action for change in changes] == ["kept", "kept"]


def test_links_are_looked_for_only_where_something_goes(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.image("solver:1")
    monkeypatch.setattr(scan, "store_directories", lambda *_places: pytest.fail("it was looked for"))
    assert shelf.remove("other:1")[0].action == "absent"
    assert shelf.remove(keep=("solver:1",)) == []
    assert shelf.sweep() == ([], [])


def test_what_no_image_has_is_swept(shelf: Shelf) -> None:
    shelf.image("a:1")
    images = {
        "old/y.simg": squashfs_bytes(),
        "old/z.img": LAUNCH + ext_bytes(),
        "empty.sif": b"",
        "half.sif": sif_bytes()[:1000],
        "x.sif": sif_bytes(),
    }
    others = {".tmp.sif": sif_bytes(), "notes.txt": b"x"}
    for name, content in {**images, **others}.items():
        write(shelf.store / name, content)
    gone, strangers = shelf.sweep()
    assert (sorted(gone), strangers) == (sorted(images), [])
    assert all((shelf.store / name).exists() for name in others)
    assert shelf.left()[0] == ["library/a:1"]


def test_what_is_no_image_is_told_and_stays(shelf: Shelf) -> None:
    shelf.image("a:1")
    others = {
        "notes.sif": b"which image is which",
        "vm/disk.img": b"\xeb\x63\x90" + bytes(10_000),
        "vm/overlay.img": ext_bytes(),
        "vm/unwritten.simg": bytes(100),
    }
    for name, content in others.items():
        write(shelf.store / name, content)
    os.mkfifo(shelf.store / "pipe.sif")
    gone, strangers = shelf.sweep()
    assert (gone, sorted(strangers)) == ([], sorted([*others, "pipe.sif"]))
    assert all((shelf.store / name).read_bytes() == content for name, content in others.items())


def test_the_stores_of_other_inventories_are_not_swept(shelf: Shelf) -> None:
    shelf.image("a:1")
    project = Shelf(shelf.store / "team")
    project.image("b:1")
    write(project.store / "more" / "unknown.sif", sif_bytes())
    write(shelf.store / "team" / "stray.sif", sif_bytes())
    assert shelf.sweep() == (["team/stray.sif"], [])
    assert [path.name for path in project.store.rglob("*.sif")] == ["b-1.sif", "unknown.sif"]
    assert project.sweep() == (["more/unknown.sif"], [])


def test_a_directory_with_the_inventory_of_the_whole_store_is_swept(shelf: Shelf) -> None:
    shelf.image("a:1")
    write(shelf.store.parent / "stray.sif", sif_bytes())
    write(shelf.store / "other.sif", sif_bytes())
    (shelf.store.parent / "link").symlink_to(shelf.store)
    shelf.inventory = Inventory(str(shelf.store.parent / "link" / ".sregistry"))
    assert shelf.sweep(shelf.store.parent) == (["stray.sif", "store/other.sif"], [])
    assert shelf.left() == (["library/a:1"], ["a-1.sif"])


def test_a_store_with_another_inventory_than_the_one_that_is_asked_is_not_swept(shelf: Shelf, tmp_path: Path) -> None:
    shelf.image("a:1")
    other = Inventory(str(tmp_path / "database"))
    other.put(document("b:1"))
    for check in (True, False):
        with pytest.raises(InventoryError) as error:
            sweep_store(other, dataclasses.replace(shelf.places(), inventory=other.directory), [], check)
        assert str(error.value).startswith(
            f"{shelf.store} has an inventory of its own, {shelf.store}/.sregistry, so that it cannot be swept by "
            f"{tmp_path}/database; "
        )
    assert shelf.left() == (["library/a:1"], ["a-1.sif"])


def test_where_one_file_cannot_be_removed_none_is_swept(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.image("a:1")
    for name in ("first.sif", "z/closed.sif"):
        write(shelf.store / name, sif_bytes())
    closed, real = str(shelf.store / "z"), os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != closed and real(path, mode))  # root may write there
    for check in (True, False):
        with pytest.raises(StorageError, match=closed):
            sweep_store(shelf.inventory, shelf.places(), [], check)
    assert (shelf.store / "first.sif").exists()


def linked(shelf: Shelf, name: str) -> tuple[Path, Path]:
    """Return the paths of an image's file in the store and, by a symlink to a symlink outside, in the inventory."""
    target = write(shelf.store / "x" / "tool.sif", sif_bytes("tool"))
    (shelf.store.parent / "current.sif").symlink_to("latest.sif")
    (shelf.store.parent / "latest.sif").symlink_to(target)
    shelf.inventory.put(document(name, file_there(shelf.store.parent / "current.sif")))
    return target, shelf.store.parent / "current.sif"


def test_a_file_that_an_image_has_by_a_symlink_is_not_swept(shelf: Shelf) -> None:
    target, _link = linked(shelf, "foo/tool:1")
    assert shelf.sweep() == ([], [])
    assert target.exists()


@pytest.mark.parametrize("step", ["x/tool.sif", "../latest.sif"])
def test_a_file_that_another_image_has_by_a_symlink_stays(shelf: Shelf, step: str) -> None:
    target, link = linked(shelf, "foo/tool:1")
    shelf.inventory.put(document("b:1", file_there(shelf.store / step)))
    (change,) = shelf.remove("b:1")
    assert (change.action, change.files) == ("removed", [])
    assert link.read_bytes() == target.read_bytes() == sif_bytes("tool")


def test_what_an_image_had_by_a_symlink_is_swept_with_the_same_run(shelf: Shelf) -> None:
    target, link = linked(shelf, "foo/tool:1")
    wanted = RemoveRequest([Selector.parse("foo/tool:1")], [], None, "absent", False, check=True, places=shelf.places())
    told = []
    for check in (True, False):
        changes = remove(shelf.inventory, shelf.cache, dataclasses.replace(wanted, check=check))
        told.append((changes[0].files, sweep_store(shelf.inventory, shelf.places(), changes, check).gone))
    assert told == [([str(link)], [str(target)])] * 2
    assert not target.exists()


def leave(directory: Path, name: str = "big-1.sif", host: str = "", kind: str = "file") -> Path:
    """Leave the remains of a killed run that was making a file, or a directory tree."""
    directory.mkdir(parents=True, exist_ok=True)
    mark = stale.prefix(name) if not host else stale.prefix(name)[: -len("01234567-")] + f"{host}-"
    path = directory / f"{mark}abc_12.tmp"
    if kind == "file":
        path.write_bytes(b"half")
    else:
        write(path / "new" / "etc" / "passwd", b"root")
    return path


def test_what_killed_runs_left_is_swept(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.image("a:1")
    file = leave(shelf.store / "big")
    tree = leave(shelf.store, kind="tree")
    away = leave(shelf.store, host="0123abcd")
    link = leave(shelf.store, host="link")
    (shelf.store / ".notes.sregistry-mine.tmp").write_text("work")
    (shelf.store / ".big.sregistry-0123abcd-x.tmp.txt").write_text("work")
    nested = leave(shelf.store / "team")
    (shelf.store / "team" / ".sregistry").mkdir()
    assert shelf.sweep() == ([], []), "what is young may be about to be held"
    monkeypatch.setattr(stale, "_ABANDONED", -1.0)
    with file.open("rb") as held:
        stale.protect(held.fileno())
        assert shelf.sweep() == ([tree.name], [])
    assert shelf.sweep() == ([f"big/{file.name}"], [])
    monkeypatch.setattr(stale, "_FORGOTTEN", -1.0)
    gone, _strangers = shelf.sweep()
    assert sorted(gone) == sorted([away.name, link.name])
    assert nested.exists()
    assert len(list(shelf.store.glob(".*.tmp*"))) == 2


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory to another user")


@needs_root
def test_nothing_is_swept_where_a_directory_has_become_another_users_link(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf.image("a:1")
    elsewhere = leave(tmp_path / "elsewhere")
    shelf.store.chmod(0o777)
    link = shelf.store / "big"
    link.symlink_to(elsewhere.parent)
    os.lchown(link, 1000, 1000)
    monkeypatch.setattr(scan, "_directories", lambda *_store: [(str(link), [])])  # it was one when it was listed
    monkeypatch.setattr(stale, "_ABANDONED", -1.0)
    assert shelf.sweep() == ([], [])
    assert elsewhere.exists()


def give_away(shelf: Shelf, how: str) -> None:
    """Let others write the inventory."""
    directory = Path(shelf.inventory.images)
    directory.mkdir(parents=True, exist_ok=True)
    if how == "owner":
        os.chown(directory, 1000, 1000)
    elif how == "group":
        os.chown(directory, 0, 1000)
        directory.chmod(0o775)
    else:
        directory.chmod(0o1777)


@needs_root
@pytest.mark.parametrize("how", ["owner", "group", "all, by sticky bit"])
@pytest.mark.parametrize(
    ("content", "sha256", "why"),
    [
        (b"precious", "0" * 64, "is not the file any more that was built or added as library/evil:1"),
        (b"precious", "", "is not the file any more that was built or added as library/evil:1"),
        (b"precious", hashlib.sha256(b"precious").hexdigest(), "the file of library/evil:1, is no image"),
        (sif_bytes(), "0" * 64, "is not the file any more that was built or added as library/evil:1"),
    ],
)
def test_what_others_wrote_into_the_inventory_makes_root_remove_nothing_but_that_image(
    shelf: Shelf, tmp_path: Path, how: str, content: bytes, sha256: str, why: str
) -> None:
    shelf.image("a:1")
    precious = write(tmp_path / "root" / "precious", content)
    give_away(shelf, how)
    shelf.inventory.put(document("evil:1", dataclasses.replace(file_there(precious), sha256=sha256)))
    if how == "owner":  # the document belongs to him, and the file does not
        why = (
            f"{precious} belongs to the user 0 and lies outside of {shelf.store}, and the user 1000 could have written"
        )
    for choice in ({"keep": ("a:1",)}, {"names": ("evil:1",)}):
        (change,) = shelf.remove(*choice.get("names", ()), keep=choice.get("keep"))
        assert why in str(change.error)
    assert precious.read_bytes() == content
    assert actions(shelf.remove("a:1")) == [("library/a:1", "removed")], "what is true is believed"
    assert actions(shelf.remove("evil:1", state="forgotten")) == [("library/evil:1", "forgotten")]


@needs_root
def test_a_directory_that_others_wrote_into_the_inventory_goes_where_they_may_write(
    shelf: Shelf, tmp_path: Path
) -> None:
    give_away(shelf, "owner")
    for parent in ("theirs", "hostile", "root"):
        place = tmp_path / parent / "box"
        (place / ".singularity.d").mkdir(parents=True)
        shelf.inventory.put(document(f"{parent}:1", dataclasses.replace(image_file(str(place)), sha256="")))
    for parent in ("theirs", "hostile"):
        os.chown(tmp_path / parent / "box", 1000, 1000)
    os.chown(tmp_path / "theirs", 0, 1000)
    (tmp_path / "theirs").chmod(0o775)
    os.chown(tmp_path / "hostile", 1000, 1000)
    first, second, third = shelf.remove("root:1", "hostile:1", "theirs:1")
    assert f"{tmp_path}/root/box belongs to the user 0 and lies outside of {shelf.store}" in str(first.error)
    assert "only forget it with state: forgotten" in str(first.error)
    assert "is not safe for temporary files of root" in str(second.error)
    assert (third.action, third.error) == ("removed", None)
    (forced,) = shelf.remove("root:1", force=True)
    assert str(forced.error) == str(first.error)
    assert actions(shelf.remove("root:1", state="forgotten")) == [("library/root:1", "forgotten")]


@pytest.mark.parametrize("content", [b"precious", b"", bytes(10_000)])
def test_what_is_no_image_is_removed_only_with_force(shelf: Shelf, content: bytes) -> None:
    """As after a crash: the size and time of the file, and nothing in it; or somebody's mistake in the inventory."""
    one = shelf.image("a:1")
    path = Path(one.files[0].path)
    path.write_bytes(content)
    shelf.inventory.put(dataclasses.replace(one, files=(dataclasses.replace(file_there(path), sha256="1" * 64),)))
    (change,) = shelf.remove("a:1")
    assert f"{path}, the file of library/a:1, is no image; look what it is, remove it with force" in str(change.error)
    assert actions(shelf.remove("a:1", force=True)) == [("library/a:1", "removed")]
    assert not path.exists()


@pytest.mark.parametrize("content", [squashfs_bytes(), LAUNCH + squashfs_bytes(), ext_bytes(), LAUNCH + ext_bytes()])
def test_images_of_all_formats_are_removed(shelf: Shelf, content: bytes) -> None:
    path = write(shelf.store / "old.img", content)
    shelf.inventory.put(document("a:1", file_there(path)))
    assert actions(shelf.remove("a:1")) == [("library/a:1", "removed")]
    assert not path.exists()


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
        pruned = prune_cache(shelf.inventory, shelf.cache, [], check)
        assert {one.what for one in pruned} == unneeded | {str(partial)}
        assert sum(one.size for one in pruned) == len("other") + len("far") + len("left by a killed run")
    left = {f"sha256:{path.name}" for path in Path(shelf.cache.directory, "blobs", "sha256").iterdir()}
    assert left == needed
    assert prune_cache(shelf.inventory, shelf.cache, [], False) == []


def test_a_document_with_anything_for_a_digest_keeps_no_cache_from_being_pruned(shelf: Shelf) -> None:
    one = shelf.image("a:1")
    shelf.inventory.put(dataclasses.replace(one, metrics={"manifest": {"config": {"digest": ["sha256"]}}}))
    stranger = blob(shelf.cache, "stranger")
    assert [pruned.what for pruned in prune_cache(shelf.inventory, shelf.cache, [], False)] == [stranger]


def test_check_mode_of_a_prune_knows_what_the_same_run_removes(shelf: Shelf) -> None:
    one = shelf.image("a:1")
    blob(shelf.cache, "layer")
    wanted = RemoveRequest([Selector.parse("a:1")], [], None, "absent", False, check=True, places=shelf.places())
    changes = remove(shelf.inventory, shelf.cache, wanted)
    pruned = prune_cache(shelf.inventory, shelf.cache, changes, True)
    assert {one.what for one in pruned} == {digest("layer")}
    assert changes[0].dropped == {f"sha256:{one.files[0].sha256}"}  # the removal itself sees to it
    wanted = dataclasses.replace(wanted, check=False)
    changes = remove(shelf.inventory, shelf.cache, wanted)
    assert prune_cache(shelf.inventory, shelf.cache, changes, False) == pruned


def test_a_cache_in_use_is_not_pruned(shelf: Shelf) -> None:
    content = b"content"
    user = BlobCache(shelf.cache.directory, shared=True)
    path = Path(user.path(f"sha256:{hashlib.sha256(content).hexdigest()}"))
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    descriptor = Descriptor(f"sha256:{path.name}", len(content))
    assert user.obtain(descriptor, lambda _offset: pytest.fail("it is cached"), "a blob").size == len(content)
    with pytest.raises(StorageError, match="another run uses the cache"):
        prune(shelf.cache, (), check=False)
    assert path.exists()
    assert len(prune(shelf.cache, (), check=True)) == 1
    del user
    assert len(prune(shelf.cache, (), check=False)) == 1
    assert not path.exists()


def test_a_cache_that_is_not_there_needs_no_pruning(tmp_path: Path) -> None:
    assert prune(BlobCache(str(tmp_path / "none")), (), check=False) == []
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
    search = WordSearch.of(words)
    assert [uri for uri in ("library/ubuntu:24.04", "quay.io/org/app:1") if search.finds(uri)] == found


def test_a_default_registry_belongs_to_names_and_patterns_alike() -> None:
    for text in ("app:1", "app:*"):
        choice = Selector.parse(text, "localhost:5000")
        assert choice.includes("localhost:5000/app:1")
        assert not choice.includes("library/app:1")


@pytest.mark.parametrize("spelling", ["{root}//store", "{root}/link", "{root}/store/../store/", "{root}/link/"])
def test_a_store_that_is_spelled_otherwise_is_not_swept_empty(shelf: Shelf, tmp_path: Path, spelling: str) -> None:
    shelf.image("a:1")
    (tmp_path / "link").symlink_to(shelf.store)
    for check in (True, False):
        assert sweep_store(shelf.inventory, shelf.places(spelling.format(root=tmp_path)), [], check).gone == []
    assert shelf.left() == (["library/a:1"], ["a-1.sif"])


def test_nothing_is_swept_where_there_is_no_inventory(tmp_path: Path) -> None:
    place = write(tmp_path / "images" / "a.sif", sif_bytes())
    for directory in (tmp_path / "typo", tmp_path / "images" / ".sregistry"):
        for check in (True, False):
            with pytest.raises(InventoryError, match="there is no inventory in"):
                sweep_store(Inventory(str(directory)), Places(str(tmp_path / "images"), str(directory)), [], check)
    assert place.exists()


def test_what_lies_in_a_sandbox_is_not_swept(shelf: Shelf) -> None:
    shelf.image("a:1")
    (shelf.store / "dev/box/.singularity.d").mkdir(parents=True)
    write(shelf.store / "dev/box/disk.img", squashfs_bytes())
    assert shelf.sweep() == ([], [])


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
    assert Selector.parse(pattern, registry).includes(uri)
    assert not Selector.parse(pattern, registry).includes("other.io/org/app:1")


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


def test_what_another_run_removes_first_is_absent_and_no_failure(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    one = shelf.image("team/app:1")
    shelf.image("team/other:1")

    def beaten(inventory: Inventory, *given: Any, **more: Any) -> Any:
        Path(one.files[0].path).unlink(missing_ok=True)
        inventory.remove(*one.key)
        return hold_all(inventory, *given, **more)

    monkeypatch.setattr(use_case, "hold_all", beaten)
    keep = [Selector.parse("team/other:1")]
    wanted = RemoveRequest(None, keep, None, "absent", False, check=False, places=shelf.places())
    (change,) = remove(shelf.inventory, shelf.cache, wanted)
    assert (change.action, change.changed, change.error) == ("absent", False, None)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_file_that_cannot_be_read_is_not_called_no_image(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.image("team/app:1")
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.R_OK)

    def unreadable(path: str) -> bool:
        raise InvalidImage(f"cannot read {path}: Permission denied; let this user read it")

    monkeypatch.setattr(
        "ansible_collections.hpc.sregistry.plugins.module_utils._internal.manage.remove.begins_as_image", unreadable
    )
    (change,) = shelf.remove("team/app:1")
    assert "let this user read it" in str(change.error)
