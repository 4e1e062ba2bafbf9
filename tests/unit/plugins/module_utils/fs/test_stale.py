# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Remains of killed runs go with the next run; what another run is writing stays."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.fs import stale
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.fs.files import link_in_place, replacing

NAME = "debian-12.sif"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count what was made just now as old."""
    monkeypatch.setattr(stale, "_ABANDONED", -1.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / NAME


def left_by_a_killed_run(path: Path) -> Path:
    """Start a process that writes half of a file, and kill it."""
    script = (
        "import os, signal, sys\n"
        "from ansible_collections.hpc.sregistry.plugins.module_utils._internal.fs.files import replacing\n"
        "with replacing(sys.argv[1]) as stream:\n"
        "    stream.write(b'half')\n"
        "    stream.flush()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", script, str(path)], env=environment, check=False)
    (left,) = path.parent.iterdir()
    assert left.read_bytes() == b"half"
    return left


def test_the_next_run_removes_what_a_killed_one_left(path: Path) -> None:
    left_by_a_killed_run(path)
    with replacing(str(path)) as stream:
        stream.write(b"whole")
    assert [each.name for each in path.parent.iterdir()] == [NAME]
    assert path.read_bytes() == b"whole"


def test_what_another_run_is_writing_stays_to_the_end(path: Path) -> None:
    def nobody_took_it(temporary: str) -> None:
        stale.remove_files(str(path))
        assert os.path.exists(temporary)

    with replacing(str(path), prepare=nobody_took_it) as stream:
        stream.write(b"first")
        stale.remove_files(str(path))
    assert path.read_bytes() == b"first"


def test_a_name_that_another_run_is_about_to_give_stays(path: Path) -> None:
    source = path.with_name("blob")
    source.write_bytes(b"content")

    def nobody_took_it(temporary: str) -> None:
        stale.remove_files(str(path))
        assert os.path.exists(temporary)

    assert link_in_place(str(source), str(path), lambda _stream: True, nobody_took_it)


def test_a_run_that_only_waits_for_the_same_file_is_not_held_up_by_a_name_of_it(path: Path) -> None:
    source = path.with_name("blob")
    source.write_bytes(b"content")

    def lockable(_temporary: str) -> None:
        with open(source, "rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)

    assert link_in_place(str(source), str(path), lambda _stream: True, lockable)


def test_what_is_young_may_be_about_to_be_held(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stale, "_ABANDONED", 60.0)
    left = left_by_a_killed_run(path)
    # Another name of an old file is not old itself.
    os.utime(left, (0, 0))
    stale.remove_files(str(path))
    assert left.exists()


def test_what_another_host_left_stays_for_a_day(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = left_by_a_killed_run(path)
    other = left.with_name(left.name.replace(stale.prefix(str(path)), f".{NAME}.sregistry-0123abcd-"))
    left.rename(other)
    stale.remove_files(str(path))
    assert other.exists()
    monkeypatch.setattr(stale, "_FORGOTTEN", -1.0)
    stale.remove_files(str(path))
    assert not other.exists()


def test_nothing_but_temporary_files_of_the_same_path_goes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stale, "_FORGOTTEN", -1.0)
    own = stale.prefix(str(path))
    stay = [f".{NAME}.tmp", f".{NAME}.notes.tmp", f"{own}x", f"{NAME}.tmp", stale.prefix("/other.sif") + "x.tmp"]
    for name in stay:
        path.with_name(name).touch()
    path.with_name(f"{own}d.tmp").mkdir()
    path.with_name(f"{own}l.tmp").symlink_to(path.with_name(stay[0]))
    path.with_name(f"{own}x.tmp").touch()
    path.with_name(stale.link_prefix(str(path)) + "x.tmp").touch()
    stale.remove_files(str(path))
    assert sorted(os.listdir(path.parent)) == sorted([*stay, f"{own}d.tmp", f"{own}l.tmp"])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_the_file_of_another_user_stays(path: Path) -> None:
    left = left_by_a_killed_run(path)
    os.chown(left, 1000, 1000)
    stale.remove_files(str(path))
    assert left.exists()


def test_a_file_that_its_owner_may_not_write_to_goes_too(path: Path) -> None:
    left_by_a_killed_run(path).chmod(0o444)
    stale.remove_files(str(path))
    assert os.listdir(path.parent) == []


def test_one_that_is_held_does_not_keep_the_others(path: Path) -> None:
    for number in range(4):
        path.with_name(f"{stale.prefix(str(path))}{number}.tmp").touch()
    name = f"{stale.prefix(str(path))}1.tmp"
    with open(path.with_name(name), "rb") as held:
        stale.protect(held.fileno())
        stale.remove_files(str(path))
        assert os.listdir(path.parent) == [name]
