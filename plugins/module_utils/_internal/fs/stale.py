# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Remains of killed runs: temporary files and directories of this user that nobody holds, and nobody made just now.

Locks may be those of one host only (``localflock`` of Lustre, ``nolock`` of NFS), so a name tells which host made it.
What another one left stays for a day. So does all where locks keep nobody out: nothing tells then who lives.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress

from . import flock

SUFFIX = ".tmp"

_MARK = "sregistry-"
_MADE_FOR_A_PATH = re.compile(rf"\..+\.{_MARK}(?:[0-9a-f]{{8}}|link)-\w+{re.escape(SUFFIX)}", re.DOTALL)
_ABANDONED = 60.0  # seconds; what is younger may be about to be held
_FORGOTTEN = 24 * 3600.0  # seconds, for what another host made, or nobody can hold


def prefix(path: str = "") -> str:
    """Return how temporary names begin that are held: beside the path that is to be got, or anywhere."""
    host = hashlib.sha256(os.uname().nodename.encode("utf-8", "replace")).hexdigest()[:8]
    return f"{_start(path)}{host}-"


def link_prefix(path: str) -> str:
    """Return the same for further names of files, which are not held: others lock these files as well."""
    return f"{_start(path)}link-"


def protect(descriptor: int) -> None:
    """Keep other runs from taking an open file or directory for abandoned, as far as the file system has locks.

    That lasts until all duplicates of the descriptor are closed.
    """
    with suppress(OSError):
        flock.lock(descriptor)


def made_for(path: str, names: Iterable[str]) -> list[str]:
    """Return the temporary files that were to get a path, whoever holds them.

    :param names: those in its directory.
    """
    start = _start(path)
    return [
        os.path.join(os.path.dirname(path), name) for name in names if name.startswith(start) and name.endswith(SUFFIX)
    ]


def remove_files(path: str, names: Iterable[str] | None = None) -> None:
    """Remove the temporary files that were to get a path.

    :param names: those in its directory, where they are known.
    """
    for left in _abandoned(os.path.dirname(path), path, SUFFIX, stat.S_IFREG, names):
        with suppress(OSError):
            os.unlink(left)


def abandoned_directories(parent: str) -> Iterator[str]:
    """Yield the temporary directories that were left in one; nobody else gets one before the next is asked for."""
    return _abandoned(parent, "", "", stat.S_IFDIR)


def abandoned_beside(path: str) -> Iterator[str]:
    """Yield the temporary directories that were left of those made for a path, as ``abandoned_directories``."""
    return _abandoned(os.path.dirname(path), path, SUFFIX, stat.S_IFDIR)


def found_in(parent: str) -> Iterator[str]:
    """Yield the temporary files and directories that were made for any path of a directory. Each is held meanwhile."""
    own = f".{prefix()}"
    with suppress(OSError):
        for name in sorted(os.listdir(parent)):
            if _MADE_FOR_A_PATH.fullmatch(name):
                path = os.path.join(parent, name)
                with suppress(OSError):  # it is held, or gone
                    kind = stat.S_IFDIR if stat.S_ISDIR(os.lstat(path).st_mode) else stat.S_IFREG
                    yield from _not_held(path, kind, _ABANDONED if own in name else _FORGOTTEN)


def _start(path: str) -> str:
    # 255 bytes is the most that a name may have.
    return f".{os.path.basename(path)[:50]}.{_MARK}" if path else _MARK


def _abandoned(parent: str, path: str, end: str, kind: int, names: Iterable[str] | None = None) -> Iterator[str]:
    own, start = prefix(path), _start(path)
    with suppress(OSError):
        for name in os.listdir(parent) if names is None else names:
            if name.startswith(start) and name.endswith(end):
                with suppress(OSError):  # it is held, or gone
                    place = os.path.join(parent, name)
                    yield from _not_held(place, kind, _ABANDONED if name.startswith(own) else _FORGOTTEN)


def _not_held(path: str, kind: int, seconds: float) -> Iterator[str]:
    status = os.lstat(path)
    if stat.S_IFMT(status.st_mode) != kind or status.st_uid != os.geteuid():
        return
    # Another name of a file is as old as the file by its mtime, but not by its ctime.
    age = time.time() - (status.st_ctime if kind == stat.S_IFREG else status.st_mtime)
    if age < seconds:
        return
    descriptor = _opened(path, kind)
    try:
        if flock.lock(descriptor) or age >= _FORGOTTEN:
            yield path
    finally:
        os.close(descriptor)


def _opened(path: str, kind: int) -> int:
    flags = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    if kind == stat.S_IFREG:
        with suppress(PermissionError):
            return os.open(path, os.O_RDWR | flags)  # NFS locks only what could be written to
    return os.open(path, os.O_RDONLY | flags)
