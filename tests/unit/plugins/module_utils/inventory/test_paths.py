# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names in directories that lead to one file, and those of them that the others need."""

from __future__ import annotations

import errno
import os
import re
import time
from pathlib import Path

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.inventory.paths import (
    back_up,
    entries,
    entry,
    is_one_name,
    is_second_name,
)
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.inventory.relocate import leads_to


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a file with all kinds of names."""
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "a.sif").write_text("a")
    (tmp_path / "store" / "copy.sif").write_text("a")
    os.link(tmp_path / "store" / "a.sif", tmp_path / "store" / "hard.sif")
    (tmp_path / "dir").symlink_to("store")
    (tmp_path / "soft.sif").symlink_to("dir/a.sif")
    (tmp_path / "store" / "chain.sif").symlink_to("../store/../soft.sif")
    (tmp_path / "loop.sif").symlink_to("loop.sif")
    (tmp_path / "dangling.sif").symlink_to("nowhere/x.sif")
    return tmp_path


@pytest.mark.parametrize(
    ("path", "one", "second", "leads"),
    [
        ("store/a.sif", True, True, False),
        ("dir/a.sif", True, True, False),
        ("store/hard.sif", False, True, False),
        ("soft.sif", False, False, True),
        ("store/chain.sif", False, False, True),
        ("dir/chain.sif", False, False, True),
        ("store/copy.sif", False, False, False),
        ("loop.sif", False, False, False),
        ("dangling.sif", False, False, False),
        ("nowhere/y.sif", False, False, False),
    ],
)
def test_what_a_path_has_to_do_with_a_file(root: Path, path: str, one: bool, second: bool, leads: bool) -> None:
    file = str(root / "store" / "a.sif")
    told = [about(str(root / path), file) for about in (is_one_name, is_second_name, leads_to)]
    assert told == [one, second, leads]


def test_a_path_needs_each_symlink_on_its_way(root: Path) -> None:
    steps = ("dir/chain.sif", "soft.sif", "store/a.sif")
    assert entries(str(root / "store" / "chain.sif")) == {entry(str(root / step)) for step in steps}


@pytest.mark.parametrize("links", [True, False], ids=["hard links", "no hard links"])
@pytest.mark.parametrize("length", [9, 255])
def test_a_backup_is_another_name_of_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool, length: int
) -> None:
    path = tmp_path / f"{'a' * (length - 4)}.sif"
    path.write_text("precious")
    path.chmod(0o640)
    os.utime(path, ns=(1, 2))
    if not links:
        monkeypatch.setattr(os, "link", refused)
    backup = Path(str(back_up(str(path))))
    assert re.fullmatch(rf"a+(\.sif)?\.{os.getpid()}\.\d{{4}}-\d\d-\d\d@\d\d:\d\d:\d\d~", backup.name)
    assert backup.parent == path.parent
    assert (backup.read_text(), backup.stat().st_mode & 0o777, backup.stat().st_mtime_ns) == ("precious", 0o640, 2)
    assert is_second_name(str(path), str(backup)) is links
    assert back_up(str(path), str(backup)) == str(backup)


def test_a_backup_replaces_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.sif").write_text("one")
    monkeypatch.setattr(time, "strftime", lambda _format: "2026-11-22@00:20:43")
    names = [str(back_up(str(tmp_path / "a.sif"))) for _time in range(3)]
    assert [name.rpartition("@")[2] for name in names] == ["00:20:43~", "00:20:43.1~", "00:20:43.2~"]


def test_a_backup_of_a_symlink_is_the_symlink_and_of_nothing_none(root: Path) -> None:
    backup = str(back_up(str(root / "soft.sif")))
    assert os.readlink(backup) == "dir/a.sif"
    assert back_up(str(root / "nowhere.sif")) is None


def refused(*_paths: object, **_options: object) -> None:
    """Fail as ``os.link`` does on a file system without hard links."""
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))
