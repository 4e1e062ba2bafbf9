# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Paths and files that root uses, where other users could have put links, files and names."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import StorageError
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.fs import files, guard, lock, permit

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be made to act for others")

USER, OTHER = 1000, 1001


def owned(path: Path, owner: int, mode: int = 0o755, group: int | None = None) -> Path:
    """Make a directory of a user."""
    path.mkdir(exist_ok=True)
    os.chown(path, owner, owner if group is None else group)
    path.chmod(mode)
    return path


def linked(path: Path, target: Path, owner: int, names: int = 1) -> Path:
    """Make a symlink of a user, with so many names."""
    path.symlink_to(target)
    os.lchown(path, owner, owner)
    for number in range(1, names):
        os.link(path, path.with_name(f"{path.name}{number}"), follow_symlinks=False)
    return path


def reaches(directory: Path, base: Path | str = "") -> bool:
    said = refusal(lambda: guard.reached(str(directory), str(base)))
    assert not said or said.startswith(f"{directory} leads through the symlink ")
    return not said


def refusal(hold: Callable[[], AbstractContextManager[object]]) -> str:
    """Return the reason why something cannot be held; empty if it can."""
    try:
        with hold():
            return ""
    except StorageError as error:
        return str(error)


@pytest.mark.parametrize(
    ("holder", "mode", "link", "names", "target", "above", "below"),
    [
        (0, 0o755, 0, 1, 0, True, True),  # as /scratch -> /lustre/scratch
        (0, 0o755, USER, 1, 0, True, True),  # the user could not put it there, nor change it
        (0, 0o2775, 0, 1, 0, True, True),  # in the store of a group
        (0, 0o2775, USER, 1, 0, False, False),
        (0, 0o1777, USER, 1, 0, False, False),  # as in /tmp
        (USER, 0o755, 0, 1, 0, True, True),  # root made it for the user
        (USER, 0o755, 0, 2, 0, False, False),  # it may be root's link from elsewhere, under a second name
        (USER, 0o755, USER, 1, 0, False, False),
        (USER, 0o755, USER, 1, OTHER, False, False),
        (USER, 0o755, USER, 1, USER, True, False),  # his home leads to his scratch directory; a store holds no links
        (USER, 0o755, OTHER, 1, USER, False, False),
    ],
)
def test_root_follows_the_links_that_no_other_user_can_have_made(
    tmp_path: Path, holder: int, mode: int, link: int, names: int, target: int, above: bool, below: bool
) -> None:
    place = owned(tmp_path / "target", target)
    directory = owned(tmp_path / "holder", holder, mode, group=USER)
    way = linked(directory / "way", place, link, names)
    owned(place / "deep", target)
    for end in (way, way / "deep"):
        assert reaches(end) is above
        assert reaches(end, directory) is below
        assert reaches(end, way) is above, "what leads to a store is not below it"
    with guard.reached(str(place)) as held:
        assert (held == str(place)) is (target == 0), "a path is used as it is where nobody else can move it"


@pytest.mark.parametrize("others", [(), (USER,)])
def test_who_may_write_by_an_access_control_list_is_another_user(tmp_path: Path, others: tuple[int, ...]) -> None:
    """A directory of root whose list lets a user write has the bits of its group, the one of root, for a mask."""
    store = owned(tmp_path / "store", 0, 0o775)
    if others:
        entries = [(0x01, 7, -1), (0x02, 7, USER), (0x04, 5, -1), (0x10, 7, -1), (0x20, 5, -1)]
        packed = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *one) for one in entries)
        try:
            os.setxattr(store, "system.posix_acl_access", packed)  # acl(5), linux/posix_acl_xattr.h
        except OSError as error:
            pytest.skip(f"the file system of {tmp_path} has no access control lists: {error.strerror}")
    linked(store / "images", owned(tmp_path / "elsewhere", 0), USER)
    assert reaches(store / "images", store) is not bool(others)
    assert bool(guard.intruders(str(store), strict=True)) is bool(others)


def test_a_held_directory_is_the_same_when_another_one_has_its_name(tmp_path: Path) -> None:
    home, canary = owned(tmp_path / "home", USER), owned(tmp_path / "canary", 0)
    store = owned(home / "store", USER)
    with files.replacing(str(store / "image.sif")) as stream:
        stream.write(b"new")
        store.rename(home / "away")
        linked(store, canary, USER)
    assert os.listdir(canary) == []
    assert (home / "away" / "image.sif").read_bytes() == b"new"


def test_what_root_makes_belongs_to_the_owner_of_the_directory(tmp_path: Path) -> None:
    for name, owner, mode in (("user", USER, 0o755), ("group", 0, 0o2775), ("root", 0, 0o755)):
        top = owned(tmp_path / name, owner, mode, group=OTHER)
        files.make_directory(str(top / "a" / "b"), 0o700)
        with files.replacing(str(top / "a" / "b" / "file")) as stream:
            stream.write(b"x")
        with lock.locked(str(top / "a" / "lock"), 1):
            pass
        for path in (top / "a", top / "a" / "b", top / "a" / "b" / "file", top / "a" / "lock"):
            group = OTHER if owner or mode & 0o2000 else 0
            assert (path.stat().st_uid, path.stat().st_gid) == (owner, group), path
        assert (top / "a" / "b").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("make", ["link", "second name"])
def test_a_lock_that_is_roots_file_keeps_its_owner(tmp_path: Path, make: str) -> None:
    home, secret = owned(tmp_path / "home", USER), tmp_path / "secret"
    secret.write_text("secret")
    secret.chmod(0o600)
    if make == "link":
        linked(home / "lock", secret, USER)
        with pytest.raises(StorageError), lock.locked(str(home / "lock"), 1):
            pass
    else:
        os.link(secret, home / "lock")
        with lock.locked(str(home / "lock"), 1):
            pass
    assert (secret.stat().st_uid, secret.stat().st_mode & 0o777, secret.read_text()) == (0, 0o600, "secret")


@pytest.mark.parametrize(
    ("where", "owner", "mode", "names", "word", "read", "taken"),
    [
        ("outside", 0, 0o600, 1, USER, False, False),
        ("outside", 0, 0o644, 1, USER, True, False),  # everybody may read it
        ("outside", USER, 0o600, 1, USER, True, True),
        ("outside", USER, 0o600, 1, OTHER, False, False),
        ("outside", OTHER, 0o600, 1, guard.ANYBODY, False, False),
        ("outside", 0, 0o600, 1, guard.ROOT, True, True),  # the word of root counts
        ("store", 0, 0o600, 1, USER, True, True),  # it lies in the store
        ("store", 0, 0o600, 2, USER, False, True),  # who takes it away takes one of its names
        ("store", 0, 0o600, 2, guard.ROOT, False, True),
        ("store", 0, 0o644, 2, USER, True, True),  # as of an image that the cache keeps
        ("store", USER, 0o600, 2, USER, True, True),
    ],
)
def test_what_a_document_names_is_read_out_and_taken_away_for_who_could_do_it_himself(
    tmp_path: Path, where: str, owner: int, mode: int, names: int, word: int, read: bool, taken: bool
) -> None:
    tmp_path.chmod(0o755)
    store, outside = owned(tmp_path / "store", USER), owned(tmp_path / "outside", 0)
    path = (store if where == "store" else outside) / "image.sif"
    path.write_bytes(b"content")
    os.chown(path, owner, owner)
    path.chmod(mode)
    for number in range(1, names):
        os.link(path, outside / str(number))

    not_read = refusal(lambda: permit.reading(str(path), str(store), word))

    @contextmanager
    def taking() -> Iterator[None]:
        permit.need_meant(str(path), str(store), word, "the document")
        yield

    not_taken = refusal(taking)
    for said in (not_read, not_taken):
        assert not said or said.startswith(f"{path} belongs to the user {owner}")
    public = all(parent.stat().st_mode & 0o001 for parent in path.parents)
    assert (not not_read) is (read and (public or where == "store" or mode != 0o644))
    assert (not not_taken) is taken


@pytest.mark.parametrize(
    ("holder", "owner", "names", "kept", "changed"),
    [
        (USER, 0, 1, False, True),
        (USER, 0, 2, False, False),  # it may be any file of root
        (USER, 0, 2, True, True),  # the cache keeps it under its other name
        (USER, 0, 3, True, False),
        (USER, USER, 2, False, True),
        (USER, OTHER, 2, False, False),
        (0, 0, 2, False, True),  # nobody else can give a name there
    ],
)
def test_owner_and_mode_are_changed_of_no_file_from_elsewhere(
    tmp_path: Path, holder: int, owner: int, names: int, kept: bool, changed: bool
) -> None:
    home = owned(tmp_path / "home", holder)
    path = home / "image.sif"
    path.write_bytes(b"")
    os.chown(path, owner, owner)
    for number in range(1, names):
        os.link(path, tmp_path / str(number))
    other = str(tmp_path / "1") if kept else ""
    said = refusal(lambda: permit.changing(str(path), other))
    assert (not said) is changed
    assert not said or said.startswith(f"{path} has {names} names and belongs to the user {owner}")
    if changed:
        with permit.changing(str(path), other) as descriptor:
            assert (descriptor is None) is (holder == 0)
            assert descriptor is None or os.path.samestat(os.fstat(descriptor), path.stat())


def test_a_link_to_a_file_is_read_for_who_owns_both(tmp_path: Path) -> None:
    home = owned(tmp_path / "home", USER)
    for owner in (USER, 0):
        target = tmp_path / f"file of {owner}"
        target.write_bytes(b"content")
        os.chown(target, owner, owner)
        target.chmod(0o644)
        path = linked(home / f"link to {owner}", target, USER)
        if owner == USER:
            with permit.reading(str(path)) as held:
                assert Path(held).read_bytes() == b"content"
        else:
            with pytest.raises(StorageError, match="which the user 1000 could have made"), permit.reading(str(path)):
                pass


def test_a_file_that_its_owner_can_replace_is_read_as_it_was_looked_at(tmp_path: Path) -> None:
    shared = owned(tmp_path / "shared", 0, 0o1777)
    path, secret = shared / "image.sif", tmp_path / "secret"
    for file, content, owner in ((path, b"image", USER), (secret, b"secret", 0)):
        file.write_bytes(content)
        os.chown(file, owner, owner)
    with permit.reading(str(path)) as held:
        path.unlink()
        path.symlink_to(secret)
        assert Path(held).read_bytes() == b"image"


def test_no_file_gets_a_second_name_where_another_users_link_leads(tmp_path: Path) -> None:
    home, elsewhere = owned(tmp_path / "home", USER), owned(tmp_path / "elsewhere", 0)
    (elsewhere / "image.sif").touch()
    linked(home / "store", elsewhere, USER)
    with pytest.raises(StorageError, match="which the user 1000 could have made"):
        files.give_name(str(home / "store" / "image.sif"), str(home / "kept"))
    assert (elsewhere / "image.sif").stat().st_nlink == 1


def test_errors_call_a_held_directory_by_its_name(tmp_path: Path) -> None:
    home = owned(tmp_path / "home", USER)
    (home / "image.sif").mkdir()
    for name, words in (("image.sif", "image.sif: Is a directory"), ("no/image.sif", "no: No such file or directory")):
        said = refusal(lambda name=name: files.replacing(str(home / name)))  # type: ignore[misc]
        assert said.startswith(f"cannot use {home}/{words}")
