# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What killed runs left: temporary files and directories of this user that nobody holds, and nobody made just now."""

from __future__ import annotations

import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import suppress

SUFFIX = ".tmp"

_ABANDONED = 60.0  # seconds; who is younger may be about to be held


def prefix(path: str) -> str:
    """How the hidden names beside a path begin, for what is to get that path in the end.

    255 bytes is the most that a name may have.
    """
    return f".{os.path.basename(path)[:50]}."


def hold(descriptor: int) -> None:
    """Keep other runs from taking an open file or directory for abandoned, as far as the file system has locks.

    That lasts until all duplicates of the descriptor are closed.
    """
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def abandoned(directory: str, start: str, end: str = "") -> Iterator[str]:
    """The paths of what was left in a directory; nobody else gets one of them before the next is asked for.

    :param start, end: how the names of temporary ones start and end.
    """
    with suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.startswith(start) and entry.name.endswith(end):
                with suppress(OSError):  # it is held, or gone
                    yield from _not_held(entry)


def remove_files(path: str) -> None:
    """Remove the temporary files that were to get a path."""
    for left in abandoned(os.path.dirname(path), prefix(path), SUFFIX):
        with suppress(OSError):
            os.unlink(left)  # not a directory


def _not_held(entry: os.DirEntry[str]) -> Iterator[str]:
    status = entry.stat(follow_symlinks=False)
    # Another name of a file is as old as the file by its mtime, but not by its ctime.
    if stat.S_ISDIR(status.st_mode):
        since, flags = status.st_mtime, os.O_RDONLY | os.O_DIRECTORY
    elif stat.S_ISREG(status.st_mode):
        since, flags = status.st_ctime, os.O_RDWR  # NFS locks only what could be written to
    else:
        return
    if status.st_uid != os.geteuid() or time.time() - since < _ABANDONED:
        return
    descriptor = os.open(entry.path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield entry.path
    finally:
        os.close(descriptor)
