# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What killed runs left: temporary files and directories of this user that nobody holds, and nobody made just now.

Locks may be those of one host only (``localflock`` of Lustre, ``nolock`` of NFS), so a name tells which host made it.
What another one left stays for a day.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import suppress

SUFFIX = ".tmp"

_MARK = "sregistry-"
_MADE_FOR_A_PATH = re.compile(rf"\..+\.{_MARK}(?:[0-9a-f]{{8}}|link)-\w+{re.escape(SUFFIX)}", re.DOTALL)
_ABANDONED = 60.0  # seconds; what is younger may be about to be held
_FORGOTTEN = 24 * 3600.0  # seconds, for what another host made, or nobody can hold


def prefix(path: str = "") -> str:
    """How temporary names begin that are held: beside a path, for what is to get that path in the end, or anywhere."""
    host = hashlib.sha256(os.uname().nodename.encode("utf-8", "replace")).hexdigest()[:8]
    return f"{_start(path)}{host}-"


def link_prefix(path: str) -> str:
    """The same for further names of files, which are not held: others lock these files as well."""
    return f"{_start(path)}link-"


def hold(descriptor: int) -> None:
    """Keep other runs from taking an open file or directory for abandoned, as far as the file system has locks.

    That lasts until all duplicates of the descriptor are closed.
    """
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def remove_files(path: str) -> None:
    """Remove the temporary files that were to get a path."""
    for left in _abandoned(os.path.dirname(path), path, SUFFIX, stat.S_IFREG):
        with suppress(OSError):
            os.unlink(left)


def directories(parent: str) -> Iterator[str]:
    """The temporary directories that were left in one; nobody else gets one of them before the next is asked for."""
    return _abandoned(parent, "", "", stat.S_IFDIR)


def directories_beside(path: str) -> Iterator[str]:
    """As ``directories``, of those that were made for a path."""
    return _abandoned(os.path.dirname(path), path, SUFFIX, stat.S_IFDIR)


def found_in(parent: str) -> Iterator[str]:
    """The temporary files and directories in a directory that were made for any path there. Each is held meanwhile."""
    own = f".{prefix()}"
    with suppress(OSError), os.scandir(parent) as entries:
        for entry in sorted(entries, key=lambda one: one.name):
            if _MADE_FOR_A_PATH.fullmatch(entry.name):
                kind = stat.S_IFDIR if entry.is_dir(follow_symlinks=False) else stat.S_IFREG
                with suppress(OSError):
                    yield from _not_held(entry, kind, _ABANDONED if own in entry.name else _FORGOTTEN)


def _start(path: str) -> str:
    # 255 bytes is the most that a name may have.
    return f".{os.path.basename(path)[:50]}.{_MARK}" if path else _MARK


def _abandoned(parent: str, path: str, end: str, kind: int) -> Iterator[str]:
    own, start = prefix(path), _start(path)
    with suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            if entry.name.startswith(start) and entry.name.endswith(end):
                with suppress(OSError):  # it is held, or gone
                    yield from _not_held(entry, kind, _ABANDONED if entry.name.startswith(own) else _FORGOTTEN)


def _not_held(entry: os.DirEntry[str], kind: int, seconds: float) -> Iterator[str]:
    status = entry.stat(follow_symlinks=False)
    if stat.S_IFMT(status.st_mode) != kind or status.st_uid != os.geteuid():
        return
    # Another name of a file is as old as the file by its mtime, but not by its ctime.
    since = status.st_ctime if kind == stat.S_IFREG else status.st_mtime
    if time.time() - since < seconds:
        return
    descriptor = _opened(entry.path, kind)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield entry.path
    finally:
        os.close(descriptor)


def _opened(path: str, kind: int) -> int:
    flags = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    if kind == stat.S_IFREG:
        with suppress(PermissionError):
            return os.open(path, os.O_RDWR | flags)  # NFS locks only what could be written to
    return os.open(path, os.O_RDONLY | flags)
