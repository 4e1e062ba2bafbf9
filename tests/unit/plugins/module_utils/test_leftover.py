# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What killed runs left goes with the next run; what another run is writing stays."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils import leftover
from ansible_collections.hpc.sregistry.plugins.module_utils.files import link_in_place, replacing

NAME = "debian-12.sif"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was made just now counts as old."""
    monkeypatch.setattr(leftover, "_ABANDONED", -1.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / NAME


def left_by_a_killed_run(path: Path) -> Path:
    """A process writes half of a file, and is killed."""
    script = (
        "import os, signal, sys\n"
        "from ansible_collections.hpc.sregistry.plugins.module_utils.files import replacing\n"
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
        leftover.remove_files(str(path))
        assert os.path.exists(temporary)

    with replacing(str(path), prepare=nobody_took_it) as stream:
        stream.write(b"first")
        leftover.remove_files(str(path))
    assert path.read_bytes() == b"first"


def test_a_name_that_another_run_is_about_to_give_stays(path: Path) -> None:
    source = path.with_name("blob")
    source.write_bytes(b"content")

    def nobody_took_it(temporary: str) -> None:
        leftover.remove_files(str(path))
        assert os.path.exists(temporary)

    assert link_in_place(str(source), str(path), lambda _stream: True, nobody_took_it)


def test_what_is_young_may_be_about_to_be_held(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftover, "_ABANDONED", 60.0)
    left = left_by_a_killed_run(path)
    # Another name of an old file is not old itself.
    os.utime(left, (0, 0))
    leftover.remove_files(str(path))
    assert left.exists()


def test_nothing_but_temporary_files_of_the_same_name_goes(path: Path) -> None:
    stay = [f".{NAME}.x", f"{NAME}.tmp", ".other.sif.x.tmp", f".{NAME}.d.tmp", f".{NAME}.l.tmp"]
    for name in stay[:3]:
        path.with_name(name).touch()
    path.with_name(stay[3]).mkdir()
    path.with_name(stay[4]).symlink_to(path.with_name(stay[0]))
    path.with_name(f".{NAME}.x.tmp").touch()
    leftover.remove_files(str(path))
    assert sorted(os.listdir(path.parent)) == sorted(stay)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_the_file_of_another_user_stays(path: Path) -> None:
    left = left_by_a_killed_run(path)
    os.chown(left, 1000, 1000)
    leftover.remove_files(str(path))
    assert left.exists()


def test_one_that_is_held_does_not_keep_the_others(path: Path) -> None:
    for number in range(4):
        path.with_name(f".{NAME}.{number}.tmp").touch()
    with open(path.with_name(f".{NAME}.1.tmp"), "rb") as held:
        leftover.hold(held.fileno())
        leftover.remove_files(str(path))
        assert os.listdir(path.parent) == [f".{NAME}.1.tmp"]
