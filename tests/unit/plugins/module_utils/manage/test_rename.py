# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Renaming images and moving their files: the inventory follows, and nothing is ever overwritten."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import (
    InvalidReference,
    InventoryError,
    NoSpace,
)
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.inventory import storage
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.inventory.database import Inventory
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.inventory.document import Document
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.manage.move import RenameRequest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.manage.outcome import ChangeOutcome
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.manage.rename import rename
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.platform import Platform
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.reference import Reference
from ansible_collections.hpc.sregistry.tests.unit.plugins.module_utils.documents import (
    AMD64,
    ARM64,
    SCHEMA,
    digest,
    document,
    file_there,
)

OLD, NEW = "tools/solver:2.4-rc3", "tools/solver:2.4"


class Shelf:
    """A store with an image at the path of its name."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = root / "store"
        self.inventory = Inventory(str(self.store / ".sregistry"))
        self.prepared: list[str] = []

    def image(self, name: str, path: Path | None = None, platform: Platform = AMD64) -> Document:
        """Add an image with a file."""
        place = path or Path(storage.place(str(self.store), Reference.parse(name)))
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(name)
        place.chmod(0o750)
        one = document(name, file_there(place), platform=platform)
        self.inventory.put(one)
        return one

    def rename(self, name: str = OLD, new: str | None = None, **given: Any) -> list[ChangeOutcome]:
        """Rename or move, first in check mode, which must foretell it."""
        reference = Reference.parse(name)
        to = Reference.parse(new) if new else reference
        defaults = RenameRequest(reference, None, to, None, None, str(self.store), True, self.prepared.append)
        wanted = dataclasses.replace(defaults, **given)
        before = self.tree()
        foretold = rename(self.inventory, wanted)
        assert self.tree() == before
        done = rename(self.inventory, dataclasses.replace(wanted, check=False))
        assert [(c.to_result(c.name), c.to_diff()) for c in foretold] == [
            (c.to_result(c.name), c.to_diff()) for c in done
        ]
        return done

    def tree(self) -> dict[str, str]:
        """Return the image files with their content."""
        return {str(path): path.read_text() for path in self.root.rglob("*") if path.suffix in (".sif", ".simg")}

    def states(self) -> dict[str, list[tuple[str, str]]]:
        """Return each name's files, and whether they are what the inventory says."""
        return {
            one.reference.uri: [
                (file.path, storage.state(file.path, file.size, file.mtime_ns, file.sha256, False))
                for file in one.files
            ]
            for one in self.inventory.documents()
        }


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """Return an empty store."""
    return Shelf(tmp_path)


def test_a_name_and_its_file_in_the_store(shelf: Shelf) -> None:
    one = shelf.image(OLD)
    (change,) = shelf.rename(new=NEW)
    target = shelf.store / "tools" / "solver-2.4.sif"
    assert (change.changed, change.action, change.path) == (True, "renamed", str(target))
    assert shelf.states() == {NEW: [(str(target), "present")]}
    assert shelf.tree() == {str(target): OLD}
    assert target.stat().st_mode & 0o777 == 0o750
    assert shelf.prepared == [str(target)]
    (renamed,) = shelf.inventory.documents()
    assert (renamed.url, renamed.client, renamed.digest) == (one.reference.url, "dockerhub", one.digest)
    (stored,) = Path(shelf.inventory.directory, "images").glob("*.json")
    jsonschema.validate(json.loads(stored.read_bytes()), json.loads(SCHEMA.read_text()))

    (again,) = shelf.rename(new=NEW)
    assert (again.changed, again.action, again.path) == (False, "present", str(target))
    (back,) = shelf.rename(NEW, new=OLD)
    assert back.changed
    (restored,) = shelf.inventory.documents()
    assert dataclasses.replace(restored, updated_at=one.updated_at) == one


def test_a_file_at_a_path_of_its_own_stays_there(shelf: Shelf) -> None:
    place = shelf.root / "own" / "s.sif"
    shelf.image(OLD, place)
    (change,) = shelf.rename(new=NEW)
    assert (change.action, change.path) == ("renamed", str(place))
    assert shelf.states() == {NEW: [(str(place), "present")]}


@pytest.mark.parametrize(("dest", "place"), [("there/", "there/solver-2.4-rc3.sif"), ("there/s.sif", "there/s.sif")])
def test_a_file_moves_and_the_inventory_follows(shelf: Shelf, dest: str, place: str) -> None:
    shelf.image(OLD)
    (change,) = shelf.rename(dest=f"{shelf.root}/{dest}")
    assert (change.action, change.path) == ("moved", str(shelf.root / place))
    assert shelf.states() == {OLD: [(str(shelf.root / place), "present")]}
    assert list(shelf.tree()) == [str(shelf.root / place)]
    (again,) = shelf.rename(dest=f"{shelf.root}/{dest}")
    assert not again.changed


def test_a_new_name_and_a_new_place_at_once(shelf: Shelf) -> None:
    shelf.image(OLD)
    dest = f"{shelf.root}/there/solver.sif"
    assert shelf.rename(new=NEW, dest=dest)[0].action == "renamed"
    assert shelf.states() == {NEW: [(dest, "present")]}
    assert not shelf.rename(new=NEW, dest=dest)[0].changed


def no_links(monkeypatch: pytest.MonkeyPatch, code: int = errno.EXDEV) -> None:
    """Fail as between file systems."""

    def refuse(*_arguments: Any, **_named: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refuse)


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EPERM])
def test_where_no_link_is_possible_the_file_is_copied(shelf: Shelf, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    shelf.image(OLD)
    no_links(monkeypatch, code)
    dest = f"{shelf.root}/other/s.sif"
    assert shelf.rename(dest=dest)[0].changed
    assert shelf.states() == {OLD: [(dest, "present")]}
    assert shelf.tree() == {dest: OLD}
    assert Path(dest).stat().st_mode & 0o777 == 0o750


def test_all_platforms_are_renamed(shelf: Shelf) -> None:
    shelf.image(OLD)
    shelf.image(OLD, shelf.root / "arm.sif", ARM64)
    changes = shelf.rename(new=NEW)
    assert [(str(change.platform), change.action) for change in changes] == [
        ("linux/amd64", "renamed"),
        ("linux/arm64", "renamed"),
    ]
    with pytest.raises(InventoryError, match="choose one with platform"):
        shelf.rename(NEW, dest="/x.sif")
    (change,) = shelf.rename(NEW, dest=f"{shelf.root}/x.sif", platform=ARM64)
    assert change.platform == ARM64


def test_what_is_taken_stays(shelf: Shelf) -> None:
    shelf.image(OLD)
    shelf.image(NEW)
    before = shelf.tree()
    with pytest.raises(InventoryError, match="is there already for linux/amd64; remove it first"):
        shelf.rename(new=NEW)
    (change,) = shelf.rename(dest=f"{shelf.store}/tools/solver-2.4.sif")
    assert "is the file of tools/solver:2.4 for linux/amd64; choose another name or dest" in str(change.error)
    stranger = shelf.root / "stranger.sif"
    stranger.write_text("stranger")
    (change,) = shelf.rename(dest=str(stranger))
    assert str(change.error) == f"{stranger} is there already; remove it, or choose another name or dest"
    assert shelf.tree() == {**before, str(stranger): "stranger"}


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"new": NEW}, InventoryError, "there is neither an image tools/solver:2.4-rc3 nor tools/solver:2.4 to rename"),
        ({"dest": "/x.sif"}, InventoryError, "there is no image tools/solver:2.4-rc3 in "),
        ({"new": f"tools/solver@{digest('x')}"}, InvalidReference, "which only a registry can give; give it a tag"),
    ],
)
def test_what_cannot_be(shelf: Shelf, given: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        shelf.rename(**given)


@pytest.fixture
def sandbox(shelf: Shelf) -> Path:
    """Add an image with a sandbox in the place of its file."""
    place = shelf.root / "box"
    (place / ".singularity.d").mkdir(parents=True)
    one = shelf.image(OLD)
    file = dataclasses.replace(one.files[0], path=str(place), sha256="", inputs={"format": "sandbox"})
    shelf.inventory.put(dataclasses.replace(one, files=(file,)))
    return place


def test_a_sandbox_moves_as_a_whole(shelf: Shelf, sandbox: Path) -> None:
    (change,) = shelf.rename(dest=f"{shelf.root}/moved")
    assert (change.action, change.path) == ("moved", f"{shelf.root}/moved")
    assert shelf.states() == {OLD: [(f"{shelf.root}/moved", "present")]}
    assert not sandbox.exists()
    for spelling in ("moved", "moved/"):
        (again,) = shelf.rename(dest=f"{shelf.root}/{spelling}")
        assert (again.error, again.action, again.path) == (None, "present", f"{shelf.root}/moved")


def test_a_sandbox_that_cannot_move_stays(shelf: Shelf, sandbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (shelf.root / "other" / ".singularity.d").mkdir(parents=True)
    (change,) = shelf.rename(dest=f"{shelf.root}/other")
    assert f"{shelf.root}/other is there already" in str(change.error)
    (change,) = shelf.rename(dest=f"{sandbox}/opt/app")
    assert "cannot be moved into itself" in str(change.error)
    away = Path("/dev/shm")  # a file system of its own on every Linux
    assert away.stat().st_dev != sandbox.stat().st_dev
    (change,) = shelf.rename(dest=str(away / "nowhere" / "box"))
    assert f"{sandbox} is a directory, and {away}/nowhere/box is on another file system" in str(change.error)
    assert not (away / "nowhere").exists()
    assert shelf.states() == {OLD: [(str(sandbox), "present")]}


def test_which_of_several_files_moves(shelf: Shelf) -> None:
    one = shelf.image(OLD)
    second = shelf.root / "second.sif"
    second.write_text("second")
    shelf.inventory.put(one.with_file(file_there(second)))
    (change,) = shelf.rename(dest=f"{shelf.root}/there/")
    assert "has 2 files" in str(change.error)
    assert "choose one with path" in str(change.error)
    (change,) = shelf.rename(dest=f"{shelf.root}/there/", source=str(second))
    assert change.path == f"{shelf.root}/there/second.sif"
    assert not shelf.rename(dest=f"{shelf.root}/there/second.sif", source=str(second))[0].changed


def test_a_missing_file_is_renamed_and_not_moved(shelf: Shelf) -> None:
    Path(shelf.image(OLD).files[0].path).unlink()
    (change,) = shelf.rename(dest=f"{shelf.root}/x.sif")
    assert "is missing; pull or add it again first" in str(change.error)
    (change,) = shelf.rename(new=NEW)
    assert change.action == "renamed"
    assert shelf.states() == {NEW: [(f"{shelf.store}/tools/solver-2.4.sif", "missing")]}


def test_a_modified_file_is_still_one_after_it_moved(shelf: Shelf) -> None:
    Path(shelf.image(OLD).files[0].path).write_text("other")
    shelf.rename(new=NEW)
    assert shelf.states() == {NEW: [(f"{shelf.store}/tools/solver-2.4.sif", "modified")]}


@pytest.mark.parametrize("through", [False, True])
def test_a_symlink_to_the_file_itself_is_in_the_way(shelf: Shelf, through: bool) -> None:
    place = Path(shelf.image(OLD).files[0].path)
    os.link(place, shelf.root / "kept")  # as the cache has it
    link, more = place.with_name("latest.sif"), place.with_name("more.sif")
    more.symlink_to(place.name)
    link.symlink_to(more if through else place)
    (change,) = shelf.rename(dest=str(link))
    assert str(change.error) == (
        f"{link} is a symlink to {place}, and would lead to nothing; remove it, or choose another name or dest"
    )
    assert shelf.states() == {OLD: [(str(place), "present")]}
    assert link.read_text() == OLD


def test_a_file_that_another_image_needs_does_not_move(shelf: Shelf) -> None:
    place = Path(shelf.image(OLD).files[0].path)
    link = shelf.root / "current.sif"
    link.symlink_to(place)
    for other in (place, link):
        shelf.inventory.put(document("b:1", file_there(other)))
        for given in ({"new": NEW}, {"dest": f"{shelf.root}/there.sif"}):
            (change,) = shelf.rename(**given)
            assert f"{place} is the file of library/b:1 for linux/amd64; forget that image first" in str(change.error)
    assert link.read_text() == OLD


def test_a_file_that_another_path_of_the_same_image_leads_to_does_not_move(shelf: Shelf) -> None:
    place = Path(shelf.image(OLD).files[0].path)
    link = shelf.root / "apps.sif"
    link.symlink_to(place)
    known = shelf.inventory.get(Reference.parse(OLD), AMD64)
    assert known
    shelf.inventory.put(known.with_file(file_there(link)))
    (change,) = shelf.rename(new=NEW)
    assert f"{link} is a symlink to {place} and another path of the same image" in str(change.error)
    assert link.read_text() == OLD


@pytest.mark.parametrize(
    ("link", "refused"), [("solver.sif", True), ("tools/deep/solver", True), ("../elsewhere/solver", False)]
)
def test_a_file_by_which_people_use_an_image_through_a_symlink_stays_where_it_is(
    shelf: Shelf, link: str, refused: bool
) -> None:
    one = shelf.image(OLD)
    place = Path(os.path.normpath(shelf.store / link))
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(one.files[0].path)
    before = shelf.states()
    (change,) = shelf.rename(new=NEW)
    assert (change.error is not None) is refused
    if refused:
        assert f"the symlink {place} leads to {one.files[0].path}" in str(change.error)
        assert shelf.states() == before
        place.unlink()
        (change,) = shelf.rename(new=NEW)
        assert (change.action, change.error) == ("renamed", None)


def test_a_symlink_that_would_lead_elsewhere_does_not_move(shelf: Shelf) -> None:
    place = Path(shelf.image("b:1", shelf.root / "real.sif").files[0].path)
    link = shelf.root / "own" / "link.sif"
    link.parent.mkdir()
    link.symlink_to("../real.sif")
    shelf.inventory.put(document(OLD, file_there(link)))
    (change,) = shelf.rename(dest=f"{shelf.root}/own/deeper/l.sif")
    assert f"{link} is a symlink to ../real.sif, which leads elsewhere from" in str(change.error)
    assert shelf.rename(dest=f"{shelf.root}/own/l.sif")[0].action == "moved"
    assert (link.with_name("l.sif").read_text(), place.read_text()) == ("b:1", "b:1")


def fail_to_put(shelf: Shelf, **given: Any) -> str:
    """Rename an image where there is no room for its document; return the task's message."""

    def no_room(*_arguments: Any) -> None:
        raise NoSpace("no space left")

    before = shelf.tree()
    reference = Reference.parse(OLD)
    wanted = RenameRequest(reference, None, reference, None, None, str(shelf.store), False, shelf.prepared.append)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shelf.inventory, "put", no_room)
        (change,) = rename(shelf.inventory, dataclasses.replace(wanted, **given))
    assert shelf.tree() == before
    return str(change.error)


@pytest.mark.parametrize("given", [{"dest": "there/s.sif"}, {"new": Reference.parse(NEW)}])
@pytest.mark.parametrize("linked", [False, True])
def test_where_the_document_cannot_be_written_no_copy_stays(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], linked: bool
) -> None:
    if not linked:
        no_links(monkeypatch)
    shelf.image(OLD)
    given = {name: f"{shelf.root}/{value}" if name == "dest" else value for name, value in given.items()}
    assert fail_to_put(shelf, **given) == "no space left"
    (change,) = shelf.rename(**{**given, "new": str(given.get("new", OLD))})
    assert (change.error, change.changed) == (None, True)
    assert len(shelf.tree()) == 1


def test_where_the_document_cannot_be_written_a_sandbox_is_where_it_was(shelf: Shelf, sandbox: Path) -> None:
    assert fail_to_put(shelf, dest=f"{shelf.root}/moved") == "no space left"
    assert shelf.states() == {OLD: [(str(sandbox), "present")]}


def test_what_a_killed_run_has_copied_is_taken(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    no_links(monkeypatch)
    kill_at("put", shelf)
    place = shelf.store / "tools" / "solver-2.4.sif"
    assert place.read_text() == OLD
    inode = place.stat().st_ino
    (change,) = shelf.rename(new=NEW)
    assert (change.error, change.action) == (None, "renamed")
    assert shelf.states() == {NEW: [(str(place), "present")]}
    assert (shelf.tree(), place.stat().st_ino) == ({str(place): OLD}, inode)


@pytest.mark.parametrize("change", ["content", "size", "symlink", "old content"])
def test_what_is_no_copy_of_the_file_is_in_the_way(shelf: Shelf, change: str) -> None:
    place = Path(shelf.image(OLD).files[0].path)
    dest = shelf.root / "there.sif"
    dest.write_text({"content": OLD.upper(), "size": OLD + "!"}.get(change, OLD))
    if change == "symlink":
        dest.rename(shelf.root / "real")
        dest.symlink_to("real")
    elif change == "old content":
        place.write_text(OLD.upper())
    before = shelf.tree()
    (failed,) = shelf.rename(dest=str(dest))
    assert str(failed.error) == f"{dest} is there already; remove it, or choose another name or dest"
    assert shelf.tree() == before


def kill_at(stage: str, shelf: Shelf) -> None:
    """Rename an image, and die where the inventory is about to do something."""

    class Killed(BaseException):
        pass

    def kill(*_arguments: Any) -> None:
        raise Killed

    shelf.image(OLD)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shelf.inventory, stage, kill)
        with pytest.raises(Killed):
            shelf.rename(new=NEW)


@pytest.mark.parametrize("stage", ["put", "remove"])
def test_a_run_that_is_killed_loses_no_file_and_the_next_one_ends_it(shelf: Shelf, stage: str) -> None:
    kill_at(stage, shelf)
    states = shelf.states()
    assert all(state == "present" for files in states.values() for _path, state in files)
    (change,) = shelf.rename(new=NEW)
    place = f"{shelf.store}/tools/solver-2.4.sif"
    assert (change.error, change.changed, change.action, change.path) == (None, True, "renamed", place)
    assert shelf.states() == {NEW: [(place, "present")]}
    assert len(shelf.tree()) == 1
    assert not shelf.rename(new=NEW)[0].changed


def test_what_a_killed_run_wrote_and_somebody_made_a_symlink_of_is_another_image(shelf: Shelf) -> None:
    kill_at("remove", shelf)
    old, new = (Path(storage.place(str(shelf.store), Reference.parse(name))) for name in (OLD, NEW))
    new.unlink()
    new.symlink_to(old)
    with pytest.raises(InventoryError, match="is there already for linux/amd64; remove it first"):
        shelf.rename(new=NEW)
    assert new.read_text() == OLD


@pytest.mark.parametrize("change", ["other time", "other file", "new file modified", "old file modified"])
def test_what_no_killed_run_has_left_is_another_image(shelf: Shelf, change: str) -> None:
    kill_at("remove", shelf)
    (new,) = (one for one in shelf.inventory.documents() if one.reference.uri == NEW)
    place = Path(new.files[0].path if change.startswith("new") else f"{shelf.store}/{OLD.replace(':', '-')}.sif")
    if change == "other time":
        shelf.inventory.put(dataclasses.replace(new, created_at="2020-01-01T00:00:00Z"))
    elif change == "other file":
        shelf.inventory.put(new.with_changed(dataclasses.replace(new.files[0], sha256="0" * 64)))
    else:
        place.unlink()
        place.write_text("something else")
    before = shelf.tree()
    with pytest.raises(InventoryError, match="is there already for linux/amd64; remove it first"):
        shelf.rename(new=NEW)
    assert shelf.tree() == before


def test_a_place_that_is_the_same_through_a_link_loses_no_file(shelf: Shelf) -> None:
    place = Path(shelf.image(OLD).files[0].path)
    os.link(place, shelf.root / "kept")  # as the cache has it
    (shelf.root / "link").symlink_to(place.parent)
    (change,) = shelf.rename(dest=str(shelf.root / "link" / place.name))
    assert (change.error, change.action, place.read_text()) == (None, "moved", OLD)
    (again,) = shelf.rename(dest=str(shelf.root / "link" / place.name))
    assert again.action == "present"
