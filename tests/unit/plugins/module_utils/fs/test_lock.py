# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Locks: one holder at a time, given back whatever happens to it, and no file of somebody else."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import StorageError
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.fs import lock


def test_a_lock_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    inside, most = 0, 0
    counting = threading.Lock()

    def work() -> None:
        nonlocal inside, most
        with lock.locked(str(tmp_path / "lock"), 60):
            with counting:
                inside += 1
                most = max(most, inside)
            time.sleep(0.02)
            with counting:
                inside -= 1

    threads = [threading.Thread(target=work) for _number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_a_lock_that_is_not_given_back_is_named(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    with lock.locked(path, 1):
        begin = time.monotonic()
        with pytest.raises(StorageError, match=f"another run has held {path}"), lock.locked(path, 0.2):
            pytest.fail("two hold it")
        assert time.monotonic() - begin < 15
    with lock.locked(path, 0.2):
        pass


def test_a_killed_holder_gives_its_lock_back(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    script = "import fcntl, sys, time; lock = open(sys.argv[1], 'w'); fcntl.flock(lock, fcntl.LOCK_EX)"
    script += "; print(flush=True); time.sleep(600)"
    holder = subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    with pytest.raises(StorageError), lock.locked(str(path), 0.1):
        pass
    holder.kill()
    holder.communicate(timeout=1200)
    with lock.locked(str(path), 10):
        pass


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_no_error(code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_descriptor: int, _operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with lock.locked(str(tmp_path / "lock"), 1):
        assert (tmp_path / "lock").exists()


def test_a_lock_that_fails_otherwise_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_descriptor: int, _operation: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (
        pytest.raises(StorageError, match=f"cannot use {tmp_path}/lock: Input/output error"),
        lock.locked(str(tmp_path / "lock"), 1),
    ):
        pass
    with (
        pytest.raises(StorageError, match=f"cannot use {tmp_path}/no"),
        lock.locked(str(tmp_path / "no" / "lock"), 1),
    ):
        pass


def test_a_planted_symlink_is_no_lock(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "victim")
    with pytest.raises(StorageError), lock.locked(str(tmp_path / "lock"), 1.0):
        pass
    assert not (tmp_path / "victim").exists()
