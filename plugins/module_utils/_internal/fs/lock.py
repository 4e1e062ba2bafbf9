# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Locks between processes, and between hosts that share a file system."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import StorageError
from . import guard
from .files import storage_error, umask

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


@contextmanager
def locked(path: str, timeout: float) -> Iterator[None]:
    """Hold an exclusive lock, named by a file, against other processes and, on a shared file system, other hosts.

    A file system without locks is not an error: writes are atomic anyway, and only work may be done twice.

    :param timeout: seconds to wait for another holder.
    :raises StorageError: if the file cannot be made, or the other holder does not finish in time.
    """
    try:
        with guard.reached(os.path.dirname(path)) as place:
            descriptor = guard.made(os.path.join(place, os.path.basename(path)), os.O_RDWR, 0o666 & ~umask())
    except OSError as error:
        raise storage_error(error, path) from error
    try:
        _acquire(descriptor, path, timeout)
        yield
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, path: str, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    pause = 0.01
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return
            if error.errno not in (errno.EAGAIN, errno.EACCES, errno.EINTR):
                raise storage_error(error, path) from error
        if time.monotonic() > deadline:
            raise StorageError(f"another run has held {path} for {timeout:.0f} s; wait for it to end, or stop it")
        time.sleep(pause)
        pause = min(0.5, pause * 1.5)
