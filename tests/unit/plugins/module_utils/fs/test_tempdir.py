# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Temporary directories: made only where it is safe, and gone in the end."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.build import engine_build
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.engine import cli
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import NoSpace, StorageError
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.fs import guard, stale, tempdir
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.module import keys

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory to another user")


@needs_root
@pytest.mark.parametrize(
    ("owner", "mode", "why"),
    [(1000, 0o755, "it belongs to the user 1000"), (0, 0o777, "every user may write there")],
)
def test_root_does_not_work_where_another_user_can_move_files_about(
    owner: int, mode: int, why: str, tmp_path: Path
) -> None:
    hostile = tmp_path / "hostile"
    inner = hostile / "of root"
    inner.mkdir(parents=True)
    hostile.chmod(mode)
    os.chown(hostile, owner, 0)
    for parent in (hostile, inner):
        with pytest.raises(StorageError) as error, tempdir.temporary_directory(str(parent)):
            pass
        message = (
            f"{parent} is not safe for temporary files of root: {hostile}: {why}; give a tmpdir that belongs to root"
        )
        assert str(error.value).startswith(message)
        assert sorted(os.listdir(parent)) == (["of root"] if parent == hostile else [])


@needs_root
def test_a_sticky_directory_is_safe(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    with tempdir.temporary_directory(str(tmp_path)) as path:
        assert os.path.isdir(path)
    assert os.listdir(tmp_path) == []


def test_what_killed_runs_left_is_removed_by_the_next_one(tmp_path: Path) -> None:
    for name in ("sregistry-left", "sregistry-young", "other"):
        (tmp_path / name / "deep").mkdir(parents=True)
        if name != "sregistry-young":
            os.utime(tmp_path / name, (0, 0))
    with tempdir.temporary_directory(str(tmp_path)) as held:
        os.utime(held, (0, 0))
        with tempdir.temporary_directory(str(tmp_path)):
            assert os.path.isdir(held), "a directory that a run holds was taken away"
    assert sorted(os.listdir(tmp_path)) == ["other", "sregistry-young"]


def test_a_very_deep_tree_is_removed_too(tmp_path: Path) -> None:
    with tempdir.temporary_directory(str(tmp_path)) as path:
        start = os.getcwd()
        os.chdir(path)
        try:
            for _level in range(1900):
                os.mkdir("d")
                os.chdir("d")
        finally:
            os.chdir(start)
    assert os.listdir(tmp_path) == []


def test_who_could_swap_files_is_told_for_a_directory_that_is_not_there_yet(tmp_path: Path) -> None:
    assert guard.intruders(str(tmp_path / "a" / "b")) == ""
    tmp_path.chmod(0o777)
    assert guard.intruders(str(tmp_path / "a" / "b")) == f"{tmp_path}: every user may write there"
    tmp_path.chmod(0o1777)
    assert guard.intruders(str(tmp_path / "a" / "b")) == ""


@needs_root
@pytest.mark.parametrize(
    ("group", "mode", "inner", "why"),
    [
        (1000, 0o775, 0o755, "the group 1000 may write there"),
        (1000, 0o1775, 0o755, ""),  # who may add files to the parent, and swap none
        (0, 0o775, 0o755, ""),
        (1000, 0o755, 0o1777, "every user may write there"),
    ],
)
def test_who_could_add_a_file_is_told_to_who_asks_for_it(
    tmp_path: Path, group: int, mode: int, inner: int, why: str
) -> None:
    directory = tmp_path / "outer" / "inner"
    directory.mkdir(parents=True)
    os.chown(directory.parent, 0, group)
    directory.parent.chmod(mode)
    directory.chmod(inner)
    assert guard.intruders(str(directory)) == ""
    assert guard.intruders(str(directory), strict=True).rpartition(": ")[2] == why


@needs_root
def test_root_sweeps_nothing_where_another_users_link_leads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stale, "_ABANDONED", -1.0)
    elsewhere, store = tmp_path / "elsewhere", tmp_path / "store"
    for directory in (elsewhere, store):
        directory.mkdir()
        (directory / os.path.basename(f"{stale.prefix('/app.sif')}x.tmp")).touch()
    store.chmod(0o777)
    (store / "images").symlink_to(elsewhere)
    os.chown(store / "images", 1000, 1000, follow_symlinks=False)
    tempdir.remove_stale(str(store / "images"), str(store))
    assert len(list(elsewhere.iterdir())) == 1
    tempdir.remove_stale(str(store))
    assert [path.name for path in store.iterdir()] == ["images"]


def argument_file(directory: str) -> AbstractContextManager[object]:
    options = cli.BuildOptions(tmpdir=directory, arguments={"NAME": "value"})
    return cli.Engine("/usr/bin/apptainer", "apptainer", "1.4.5")._argument_file(options)


def key_file(directory: str) -> AbstractContextManager[object]:
    return keys.written(cast("Any", SimpleNamespace(params={"tmpdir": directory})), "a key")


def definition_file(directory: str) -> AbstractContextManager[object]:
    source: Any = SimpleNamespace(text="Bootstrap: docker")
    return nullcontext(engine_build._argument(source, directory))


@pytest.mark.parametrize("write", [argument_file, key_file, definition_file])
def test_what_does_not_fit_into_tmpdir_is_named(
    write: Callable[[str], AbstractContextManager[object]], small_disk: Path
) -> None:
    with (small_disk / "filler").open("wb", buffering=0) as filler, suppress(OSError):
        for _page in range(1000):
            filler.write(bytes(4096))
    with pytest.raises(NoSpace, match=f"^no space left while writing {small_disk}/"):
        write(str(small_disk)).__enter__()
    assert [path.name for path in small_disk.iterdir()] == ["filler"] or write is definition_file


@needs_root
def test_what_root_builds_where_a_group_may_write_stays_where_it_was_made(tmp_path: Path) -> None:
    store, canary = tmp_path / "store", tmp_path / "canary"
    store.mkdir()
    canary.mkdir()
    os.chown(store, 0, 1000)
    store.chmod(0o2775)
    with tempdir.beside(str(store / "box")) as place:
        (made,) = store.iterdir()
        stolen = made.rename(store / "stolen")
        made.mkdir()
        (made / "0").symlink_to(canary)
        os.mkdir(os.path.join(place, "0"))
        Path(place, "0", "file").write_text("of root")
    assert list(canary.iterdir()) == []
    assert (stolen / "0" / "file").read_text() == "of root"
    assert sorted(store.iterdir()) == [stolen]


@needs_root
def test_what_is_held_is_called_by_its_own_name(tmp_path: Path) -> None:
    os.chown(tmp_path, 0, 1000)
    tmp_path.chmod(0o2775)

    def work() -> None:
        with tempdir.beside(str(tmp_path / "box")) as place:
            raise StorageError(f"cannot use {place}/0")

    with pytest.raises(StorageError, match=rf"^cannot use {tmp_path}/\.box\.[^/]+/0$"):
        work()
