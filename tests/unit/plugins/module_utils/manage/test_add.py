# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Adding files: check mode says what happens, a second run does nothing, and no file is lost unsaid."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import InvalidReference
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.inventory.database import Inventory
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.manage.add import AddRequest, NamedFile, add
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.manage.outcome import ChangeOutcome
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.platform import Platform
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.reference import Reference
from ansible_collections.hpc.sregistry.tests.unit.plugins.module_utils.documents import (
    SCHEMA,
    digest,
    document,
)

from tests.lab.shelf import (
    LAUNCH,
    ext_bytes,
    sif_bytes,
    squashfs_bytes,
    write,
)

AMD64 = Platform("linux", "amd64")
NAME = "tools/mesher:1.9"


class Shelf:
    """A store, its inventory, and a directory where files arrive."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = root / "store"
        self.inventory = Inventory(str(self.store / ".sregistry"))
        self.prepared: list[str] = []

    def wanted(self, **given: Any) -> AddRequest:
        """Return a request, with the module's defaults."""
        defaults = AddRequest(str(self.store), "copy", False, False, False, self.prepared.append, None)
        return dataclasses.replace(defaults, **given)

    def add(self, path: Path, name: str = NAME, **given: Any) -> ChangeOutcome:
        """Add one file, first in check mode, which must foretell it."""
        item = NamedFile(name, Reference.parse(name), str(path))
        before = self.tree()
        (foretold,) = add(self.inventory, self.wanted(check=True, **given), [item])
        assert self.tree() == before
        (change,) = add(self.inventory, self.wanted(**given), [item])
        assert foretold.to_diff() == change.to_diff()
        assert foretold.warnings == change.warnings
        done = change.to_result(name)
        assert foretold.to_result(name) == {key: value for key, value in done.items() if key != "backup_file"}
        return change

    def tree(self) -> dict[str, str]:
        """Return all files but locks, with the hash of their content."""
        return {
            str(path): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(self.root.rglob("*"))
            if path.is_file() and path.suffix != ".lock"
        }

    def rows(self) -> list[tuple[str, str | None]]:
        """Return the names and paths that the inventory has."""
        return [(row["reference"], row["path"]) for row in self.inventory.rows()]


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """Return an empty store."""
    return Shelf(tmp_path)


@pytest.fixture
def mesher(shelf: Shelf) -> Path:
    """Return a file that has just arrived."""
    return write(shelf.root / "incoming" / "mesher.sif", sif_bytes())


@pytest.mark.parametrize(
    ("method", "place", "stays"),
    [
        ("copy", "store/tools/mesher-1.9.sif", True),
        ("move", "store/tools/mesher-1.9.sif", False),
        ("in_place", "incoming/mesher.sif", True),
    ],
)
def test_a_file_is_added_once(shelf: Shelf, mesher: Path, method: str, place: str, stays: bool) -> None:
    content = mesher.read_bytes()
    change = shelf.add(mesher, method=method)
    assert (change.changed, change.action, change.path) == (True, "added", str(shelf.root / place))
    assert (shelf.root / place).read_bytes() == content
    assert mesher.exists() is stays
    assert shelf.rows() == [(NAME, str(shelf.root / place))]

    again = shelf.add(mesher, method=method)
    assert (again.error, again.changed, again.action, again.path) == (None, False, "present", change.path)
    (stored,) = (shelf.store / ".sregistry" / "images").glob("*.json")
    stored_document = json.loads(stored.read_bytes())
    jsonschema.validate(stored_document, json.loads(SCHEMA.read_text()))
    assert (stored_document["client"], stored_document["url"], stored_document["digest"]) == ("local", "", None)
    assert stored_document["files"][0]["inputs"] == {"format": "sif"}


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (LAUNCH + squashfs_bytes(), "mesher-1.9.simg"),
        (LAUNCH + ext_bytes(), "mesher-1.9.img"),
        (sif_bytes(), "mesher-1.9.sif"),
    ],
)
def test_a_file_in_the_store_is_called_after_its_format(shelf: Shelf, content: bytes, name: str) -> None:
    change = shelf.add(write(shelf.root / "x", content))
    assert change.path == str(shelf.store / "tools" / name)


def test_the_platform_is_that_of_the_sif(shelf: Shelf) -> None:
    path = write(shelf.root / "a.sif", sif_bytes(architecture="arm64"))
    refused = shelf.add(path, platform=AMD64)
    assert (
        str(refused.error) == f"{path} is an image for linux/arm64, not for linux/amd64; give the platform that it has"
    )
    assert shelf.rows() == []
    assert str(shelf.add(path).platform) == "linux/arm64"


def test_another_file_under_a_name_needs_force_and_is_named(shelf: Shelf, mesher: Path) -> None:
    path = shelf.add(mesher).path
    old = hashlib.sha256(mesher.read_bytes()).hexdigest()
    mesher.write_bytes(sif_bytes("two"))
    refused = shelf.add(mesher)
    assert f"tools/mesher:1.9 has another file, {path} (sha256 {old}), than {mesher}" in str(refused.error)
    forced = shelf.add(mesher, force=True)
    assert (forced.changed, forced.action, forced.backup_file) == (True, "replaced", None)
    assert forced.warnings == [f"{path} (sha256 {old}) is replaced"]
    assert Path(path or "").read_bytes() == mesher.read_bytes()
    assert not shelf.add(mesher, force=True).changed


@pytest.mark.parametrize("method", ["copy", "move"])
def test_another_file_that_is_replaced_is_kept_where_a_backup_is_asked_for(
    shelf: Shelf, mesher: Path, method: str
) -> None:
    path = str(shelf.add(mesher, method=method, backup=True).path)
    old = Path(path).read_bytes()
    write(mesher, sif_bytes("two"))
    forced = shelf.add(mesher, method=method, force=True, backup=True)
    assert (Path(str(forced.backup_file)).read_bytes(), Path(path).read_bytes()) == (old, sif_bytes("two"))
    assert len(os.listdir(os.path.dirname(path))) == 2
    write(mesher, sif_bytes("two"))
    assert shelf.add(mesher, method=method, force=True, backup=True).backup_file is None


def test_a_file_added_in_place_that_loses_its_name_stays_on_disk(shelf: Shelf, mesher: Path) -> None:
    shelf.add(mesher, method="in_place")
    other = write(shelf.root / "incoming" / "other.sif", sif_bytes("two"))
    forced = shelf.add(other, method="in_place", force=True)
    assert "stays on disk, and is not in the inventory any more" in forced.warnings[0]
    assert mesher.exists()
    assert shelf.rows() == [(NAME, str(other))]


@pytest.mark.parametrize("damage", ["missing", "modified"])
def test_a_lost_file_in_the_store_is_repaired(shelf: Shelf, mesher: Path, damage: str) -> None:
    path = Path(shelf.add(mesher).path or "")
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(b"other")
    change = shelf.add(mesher)
    assert (change.changed, change.action) == (True, "repaired")
    assert path.read_bytes() == mesher.read_bytes()


def test_a_file_that_was_moved_and_arrives_again_is_moved_again(shelf: Shelf, mesher: Path) -> None:
    content = mesher.read_bytes()
    shelf.add(mesher, method="move")
    mesher.write_bytes(content)
    assert shelf.add(mesher, method="move").changed
    assert not mesher.exists()


def test_a_name_from_a_registry_is_refused(shelf: Shelf, mesher: Path) -> None:
    shelf.inventory.put(document(NAME, platform=AMD64))
    change = shelf.add(mesher, force=True)
    assert "tools/mesher:1.9 is the name of an image from a registry" in str(change.error)
    assert shelf.rows() == [(NAME, None)]


def test_the_file_of_another_image_is_never_taken(shelf: Shelf, mesher: Path) -> None:
    shelf.add(mesher)
    arm = write(shelf.root / "arm.sif", sif_bytes(architecture="arm64"))
    change = shelf.add(arm, force=True)
    assert "is the file of tools/mesher:1.9 for linux/amd64" in str(change.error)


@pytest.mark.parametrize("same", [True, False])
def test_a_file_in_the_store_that_nobody_knows(shelf: Shelf, mesher: Path, same: bool) -> None:
    stranger = write(shelf.store / "tools" / "mesher-1.9.sif", mesher.read_bytes() if same else sif_bytes("other"))
    change = shelf.add(mesher)
    if same:
        assert change.action == "added"
    else:
        assert "is not in the inventory, and is another file" in str(change.error)
        assert stranger.read_bytes() == sif_bytes("other")
        assert shelf.add(mesher, force=True).action == "replaced"


@pytest.mark.parametrize(
    ("content", "method", "words"),
    [
        (None, "copy", "there is no file {path} to add as tools/mesher:1.9"),
        (None, "move", "there is no file {path} to add as tools/mesher:1.9"),
        (b"text", "copy", "{path} is not an image"),
        (sif_bytes()[:-1], "copy", "{path} is truncated"),
    ],
)
def test_what_is_no_image_is_refused(shelf: Shelf, content: bytes | None, method: str, words: str) -> None:
    path = shelf.root / "x.sif"
    if content is not None:
        path.write_bytes(content)
    change = shelf.add(path, method=method)
    assert words.format(path=path) in str(change.error)
    assert shelf.rows() == []


def test_a_relative_path_and_a_name_by_digest_are_refused(shelf: Shelf, mesher: Path) -> None:
    item = NamedFile(NAME, Reference.parse(NAME), "mesher.sif")
    (change,) = add(shelf.inventory, shelf.wanted(), [item])
    assert "is no absolute path" in str(change.error)
    pinned = f"tools/mesher@{digest('x')}"
    with pytest.raises(InvalidReference, match="only a registry can give"):
        add(shelf.inventory, shelf.wanted(), [NamedFile(pinned, Reference.parse(pinned), str(mesher))])


def test_one_name_with_two_files_is_refused(shelf: Shelf, mesher: Path) -> None:
    items = [NamedFile(NAME, Reference.parse(NAME), str(path)) for path in (mesher, shelf.root / "b")]
    with pytest.raises(InvalidReference, match="is to have two files"):
        add(shelf.inventory, shelf.wanted(), items)


def test_an_error_of_one_file_ends_only_its_own_work(shelf: Shelf, mesher: Path) -> None:
    items = [
        NamedFile("a:1", Reference.parse("a:1"), str(shelf.root / "nowhere")),
        NamedFile("b:1", Reference.parse("b:1"), str(mesher)),
    ]
    failed, done = add(shelf.inventory, shelf.wanted(), items)
    assert failed.error
    assert failed.action == "failed"
    assert done.action == "added"


def test_owner_and_mode_are_set_before_the_file_has_its_name(shelf: Shelf, mesher: Path) -> None:
    names: list[tuple[str, bool]] = []
    target = shelf.store / "tools" / "mesher-1.9.sif"
    wanted = shelf.wanted(prepare=lambda path: names.append((os.path.dirname(path), target.exists())))
    add(shelf.inventory, wanted, [NamedFile(NAME, Reference.parse(NAME), str(mesher))])
    assert names == [(str(target.parent), False)]


def test_a_file_that_is_moved_onto_itself_through_a_link_stays(shelf: Shelf, mesher: Path) -> None:
    place = Path(str(shelf.add(mesher).path))
    link = shelf.root / "link"
    link.symlink_to(shelf.store)
    content = place.read_bytes()
    change = shelf.add(link / place.relative_to(shelf.store), method="move")
    assert (change.action, place.read_bytes()) == ("present", content)


def test_another_name_of_the_file_in_the_store_is_moved_over_it(shelf: Shelf, mesher: Path) -> None:
    place = Path(str(shelf.add(mesher).path))
    twin = shelf.root / "twin.sif"
    os.link(place, twin)
    content = place.read_bytes()
    shelf.add(twin, method="move")
    assert (twin.exists(), place.read_bytes()) == (False, content)


@pytest.mark.parametrize("through", ["", "link"])
def test_the_file_of_another_image_is_moved_away_only_by_force(shelf: Shelf, mesher: Path, through: str) -> None:
    place = Path(shelf.add(mesher).path or "")
    if through:
        (shelf.root / "link").symlink_to(shelf.store)
        place = shelf.root / "link" / place.relative_to(shelf.store)
    change = shelf.add(place, "other:1", method="move")
    assert f"{place} is the file of {NAME} for linux/amd64; give that image another name" in str(change.error)
    assert place.exists()
    assert shelf.add(place, "third:1").error is None  # a copy takes nothing away

    forced = shelf.add(place, "other:1", method="move", force=True)
    assert forced.warnings == [f"{place} is moved away from {NAME} for linux/amd64"]
    assert (forced.changed, place.exists()) == (True, False)


@pytest.mark.parametrize("link", ["incoming/latest", "store/deep/latest.sif"])
def test_a_file_that_a_symlink_leads_to_is_not_moved_away(shelf: Shelf, mesher: Path, link: str) -> None:
    (shelf.root / link).parent.mkdir(parents=True, exist_ok=True)
    (shelf.root / link).symlink_to(mesher)
    change = shelf.add(mesher, method="move")
    assert f"the symlink {shelf.root / link} leads to {mesher}" in str(change.error)
    assert shelf.add(mesher, name="other:1", method="copy").error is None
    change = shelf.add(mesher, method="move", force=True)
    assert (change.action, change.warnings) == ("added", [f"the symlink {shelf.root / link} leads to nothing any more"])


def test_a_file_in_the_store_of_another_inventory_is_added_with_a_warning(shelf: Shelf) -> None:
    other = shelf.root / "other"
    (other / ".sregistry" / "images").mkdir(parents=True)
    path = write(other / "deep" / "mesher.sif", sif_bytes())
    (warning,) = shelf.add(path, method="in_place").warnings
    assert f"add it with storage: {other}" in warning
    assert (
        shelf.add(write(shelf.store / "team" / "own.sif", sif_bytes("own")), "own:1", method="in_place").warnings == []
    )
    assert shelf.add(write(shelf.root / "away.sif", sif_bytes("away")), "away:1", method="in_place").warnings == []


def test_a_file_that_another_image_has_by_a_symlink_is_not_moved_away(shelf: Shelf, mesher: Path) -> None:
    link = shelf.root / "current.sif"
    link.symlink_to(mesher)
    shelf.add(link, method="in_place")
    change = shelf.add(mesher, "other:1", method="move")
    assert f"{mesher} is the file of {NAME} for linux/amd64; give that image another name" in str(change.error)
    assert link.exists()


def test_a_file_that_was_added_in_place_is_moved_into_the_store(shelf: Shelf, mesher: Path) -> None:
    shelf.add(mesher, method="in_place")
    change = shelf.add(mesher, method="move")
    assert (change.error, mesher.exists(), shelf.rows()) == (None, False, [(NAME, change.path)])


@pytest.mark.parametrize(
    ("names", "method", "same", "words"),
    [
        (("a:1", "b:1"), "move", True, "is to be the file of both library/a:1 and library/b:1, which method: move"),
        (("a:1", "b:1"), "in_place", True, "is to be the file of both library/a:1 and library/b:1, which method: in"),
        (("q/a-c:1", "q/a:c-1"), "copy", False, "the file of both q/a-c:1 and q/a:c-1 would be {store}/q/a-c-1.sif"),
        (("q/a-c:1", "q/a:c-1"), "move", False, "the file of both q/a-c:1 and q/a:c-1 would be {store}/q/a-c-1.sif"),
    ],
)
@pytest.mark.parametrize("check", [True, False])
def test_names_that_would_take_a_file_from_each_other_are_refused_before_anything_is_done(
    shelf: Shelf, mesher: Path, names: tuple[str, str], method: str, same: bool, words: str, check: bool
) -> None:
    second = mesher if same else write(shelf.root / "incoming" / "second.sif", sif_bytes("two"))
    files = zip(names, (mesher, second), strict=True)
    items = [NamedFile(name, Reference.parse(name), str(path)) for name, path in files]
    before = shelf.tree()
    with pytest.raises(InvalidReference) as caught:
        add(shelf.inventory, shelf.wanted(method=method, check=check), items)
    assert words.format(store=shelf.store) in str(caught.value)
    assert (shelf.tree(), shelf.rows()) == (before, [])


@pytest.mark.parametrize(("method", "names"), [("copy", ("a:1", "b:1")), ("in_place", ("q/a-c:1", "q/a:c-1"))])
def test_names_that_take_nothing_from_each_other_are_added(
    shelf: Shelf, mesher: Path, method: str, names: tuple[str, str]
) -> None:
    second = mesher if method == "copy" else write(shelf.root / "incoming" / "second.sif", sif_bytes("two"))
    files = zip(names, (mesher, second), strict=True)
    items = [NamedFile(name, Reference.parse(name), str(path)) for name, path in files]
    for check in (True, False):
        changes = add(shelf.inventory, shelf.wanted(method=method, check=check), items)
        assert [change.action for change in changes] == ["added", "added"]


@pytest.mark.parametrize("method", ["copy", "move", "in_place"])
def test_an_image_that_is_named_twice_is_added_once(shelf: Shelf, mesher: Path, method: str) -> None:
    items = [NamedFile(name, Reference.parse(name), str(mesher)) for name in ("a:1", "docker://a:1")]
    for check in (True, False):
        changes = add(shelf.inventory, shelf.wanted(method=method, check=check), items)
        assert [(change.name, change.action, change.changed) for change in changes] == [
            ("a:1", "added", True),
            ("docker://a:1", "present", False),
        ]
