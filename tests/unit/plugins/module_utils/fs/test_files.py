# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that appear whole or not at all, and the room that they need."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import (
    NoSpace,
    SregistryError,
    StorageError,
)
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.fs import files

# Writing


def test_a_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with files.replacing(str(path)) as stream:
        stream.write(b"new")
        stream.flush()
        assert not path.exists()
        assert len(list(tmp_path.iterdir())) == 1
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_what_was_written_can_be_read_back_within_the_block(tmp_path: Path) -> None:
    with files.replacing(str(tmp_path / "file")) as stream:
        stream.write(b"new")
        stream.seek(0)
        assert stream.read() == b"new"


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), StorageError("x")], ids=repr)
@pytest.mark.parametrize("old", [None, b"old"])
def test_a_block_that_fails_changes_nothing(old: bytes | None, error: BaseException, tmp_path: Path) -> None:
    path = tmp_path / "file"
    if old is not None:
        path.write_bytes(old)

    def fail() -> None:
        with files.replacing(str(path)) as stream:
            stream.write(b"half of it")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert [each.read_bytes() for each in tmp_path.iterdir()] == ([] if old is None else [old])


def test_a_replaced_file_passes_on_its_rights(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o4750)
    with files.replacing(str(path), 0o777) as stream:
        stream.write(b"new")
    assert (path.read_bytes(), path.stat().st_mode & 0o7777) == (b"new", 0o750)


def test_a_file_is_prepared_before_it_gets_its_name(tmp_path: Path) -> None:
    path = tmp_path / "file"
    seen: list[tuple[bool, bytes]] = []

    def prepare(temporary: str) -> None:
        seen.append((path.exists(), Path(temporary).read_bytes()))

    with files.replacing(str(path), 0o777, prepare) as stream:
        stream.write(b"new")
    assert seen == [(False, b"new")]


@pytest.mark.parametrize(
    ("asked", "umask", "mode"),
    [(0o666, 0o022, 0o644), (0o666, 0o077, 0o600), (0o640, 0o077, 0o600), (0o777, 0o022, 0o755)],
)
def test_a_new_file_has_the_mode_asked_for_less_the_umask(
    asked: int, umask: int, mode: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_UMASK", umask)
    with files.replacing(str(tmp_path / "file"), asked) as stream:
        stream.write(b"new")
    assert (tmp_path / "file").stat().st_mode & 0o7777 == mode


@pytest.mark.parametrize("name", ["n" * 255, "ü" * 127, ".hidden", "with space"])
def test_any_name_will_do(name: str, tmp_path: Path) -> None:
    with files.replacing(str(tmp_path / name)) as stream:
        stream.write(b"new")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_full_disk_is_said_so_and_leaves_the_old_file(small_disk: Path) -> None:
    path = small_disk / "file"
    path.write_bytes(b"old")
    with (
        pytest.raises(NoSpace, match=f"no space left while writing {path}.* are free; free some"),
        files.replacing(str(path)) as stream,
    ):
        stream.write(bytes(2 << 20))
    assert [each.read_bytes() for each in small_disk.iterdir()] == [b"old"]


def test_a_disk_that_is_full_to_the_last_byte_is_said_so(small_disk: Path) -> None:
    with (small_disk / "filler").open("wb", buffering=0) as filler, suppress(OSError):
        for _page in range(1000):
            filler.write(bytes(4096))
    assert (small_disk / "filler").stat().st_size == 1 << 20
    with pytest.raises(NoSpace), files.replacing(str(small_disk / "file")) as stream:
        stream.write(b"only a few bytes, which stay in a buffer until the file is closed")
    assert [each.name for each in small_disk.iterdir()] == ["filler"]


@pytest.mark.parametrize("where", ["missing/file", "plain/file", "directory"])
def test_what_cannot_be_written_is_named(where: str, tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    (tmp_path / "directory").mkdir()
    with (
        pytest.raises(StorageError, match=f"cannot use {tmp_path}/{where.partition('/')[0]}"),
        files.replacing(str(tmp_path / where)) as stream,
    ):
        stream.write(b"new")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["directory", "plain"]


def test_a_directory_is_made_with_its_parents_and_may_be_there(tmp_path: Path) -> None:
    for _time in range(2):
        files.make_directory(str(tmp_path / "a" / "b"), 0o700)
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match=f"cannot use {tmp_path}/file"):
        files.make_directory(str(tmp_path / "file" / "a"))


# Looking ahead


def test_the_nearest_directory_is_one_that_exists(tmp_path: Path) -> None:
    assert files.nearest(str(tmp_path / "a" / "b")) == str(tmp_path)
    assert files.nearest(str(tmp_path)) == str(tmp_path)
    assert files.nearest("/nonexistent/a") == "/"


def test_room_is_looked_for_where_a_directory_will_be(small_disk: Path) -> None:
    files.need_space(str(small_disk / "not" / "yet"), 500_000, "the image")
    with pytest.raises(NoSpace) as caught:
        files.need_space(str(small_disk / "not" / "yet"), 3 << 20, "the image")
    for part in (f"{small_disk}/not/yet", "the image needs 3.0 MiB", "it has 1.0 MiB", "choose another directory"):
        assert part in str(caught.value)


def test_what_is_no_directory_is_not_writable(tmp_path: Path) -> None:
    files.need_writable(str(tmp_path / "not" / "yet"))
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match=f"cannot use {tmp_path}/file: Not a directory"):
        files.need_writable(str(tmp_path / "file" / "directory"))


@pytest.mark.parametrize(
    ("flags", "uid", "said", "way_out"),
    [
        (0, 0, "Permission denied", "check that"),  # root is nobody on many file systems of a network
        (0, 4711, "Permission denied", "give the task become: true"),
        (os.ST_RDONLY, 4711, "Read-only file system", "check that"),
    ],
)
def test_a_directory_without_the_right_to_write_is_named(
    flags: int, uid: int, said: str, way_out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    actual = os.statvfs(tmp_path)
    monkeypatch.setattr(os, "access", lambda _path, _mode: False)  # root may write everywhere
    fields = [flags if index == 8 else value for index, value in enumerate(actual)]
    monkeypatch.setattr(os, "statvfs", lambda _path: os.statvfs_result(fields))
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    with pytest.raises(StorageError, match=f"cannot use {tmp_path}: {said}; {way_out}"):
        files.need_writable(str(tmp_path))
    yet = tmp_path / "not" / "yet"
    with pytest.raises(StorageError, match=f"cannot use {tmp_path}, where {yet} is to be made: {said}; {way_out}"):
        files.need_writable(str(yet))


@pytest.mark.parametrize(
    ("code", "kind"),
    [(errno.ENOSPC, NoSpace), (errno.EDQUOT, NoSpace), (errno.EACCES, StorageError), (errno.EROFS, StorageError)],
)
def test_errors_of_the_system_become_errors_of_this_library(
    code: int, kind: type[SregistryError], tmp_path: Path
) -> None:
    path = str(tmp_path / "file")
    error = files.storage_error(OSError(code, os.strerror(code)), path)
    assert error.__class__ is kind
    assert path in str(error)


@pytest.mark.parametrize(
    ("left", "words"), [((1, 1), "it needs more than the"), ((1, 0), "no inodes left"), ((0, 0), "it needs more than")]
)
def test_a_file_system_is_full_of_data_or_of_files(
    left: tuple[int, int], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    actual = list(os.statvfs(tmp_path))
    actual[5], actual[7] = left  # f_files, which is 0 where there is no such limit, and f_favail
    monkeypatch.setattr(os, "statvfs", lambda _path: os.statvfs_result(actual))
    assert words in str(files.storage_error(OSError(errno.ENOSPC, "No space left on device"), str(tmp_path / "file")))


@pytest.mark.parametrize(
    ("named", "shown"),
    [
        (None, "/store/app.sif"),  # of a write, the system names nothing
        ("/scratch/work/root", "/scratch/work/root"),
        ("/store/.app.sif.sregistry-0123abcd-x.tmp", "/store/app.sif"),
        ("/proc/self/fd/7/.app.sif.sregistry-0123abcd-x.tmp", "/store/app.sif"),
    ],
)
def test_what_the_system_names_is_what_is_full(named: str | None, shown: str) -> None:
    error = files.storage_error(OSError(errno.ENOSPC, "No space left on device", named), "/store/app.sif")
    assert f"no space left while writing {shown}" in str(error)


def test_a_full_tmpdir_is_not_blamed_on_the_file_that_is_made(small_disk: Path, tmp_path: Path) -> None:
    with (small_disk / "filler").open("wb", buffering=0) as filler, suppress(OSError):
        for _page in range(1000):
            filler.write(bytes(4096))
    path, work = tmp_path / "file", small_disk / "work"
    with (
        pytest.raises(NoSpace, match=f"^no space left while writing {work}: it needs more than the 0 B that are free"),
        files.replacing(str(path)),
    ):
        work.symlink_to("x" * 3000)  # which takes a page
    assert not path.exists()


def test_of_a_rename_that_fails_the_target_is_named() -> None:
    error = files.storage_error(OSError(errno.EISDIR, "Is a directory", "/a/.x.tmp", None, "/a/x"), "/a/x")
    assert "cannot use /a/x: Is a directory" in str(error)
