# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A directory tree on disk, written from a stream of entries."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable

from ..errors import NoSpace, StorageError
from ..fs.files import storage_error
from .tar import BLOCK, CHARACTER, DIRECTORY, FIFO, HARD_LINK, SYMLINK, Data, Entry, named, shown_path

_UNFIT_XATTR = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSPC, errno.E2BIG, errno.ERANGE, errno.EPERM, errno.EACCES)
_LAST_TIME = 2**33  # seconds; what lies beyond, some file systems cannot hold


def write_tree(root: str, entries: Iterable[tuple[Entry, Data | None]]) -> list[str]:
    """Write a tree into an existing, empty directory.

    As root, everything is written as it is. An ordinary user owns all of it, cannot make device nodes nor set trusted
    and security attributes, and gets at least read and write permission on what is written, as with the engine itself.

    :param entries: each path once, parents before children, hard links after what they link to.
    :returns: warnings about what an ordinary user could not write.
    :raises StorageError, NoSpace: if something cannot be written; the path is named.
    """
    writer = _TreeWriter(os.fsencode(root), os.geteuid() == 0)
    for entry, data in entries:
        writer.write(entry, data)
    writer.finish()
    return writer.warnings()


class _TreeWriter:
    def __init__(self, root: bytes, privileged: bool) -> None:
        self._root = root
        self._privileged = privileged
        self._directories: list[Entry] = []
        self._losses: dict[str, list[str]] = {}

    def write(self, entry: Entry, data: Data | None) -> None:
        path = os.path.join(self._root, entry.path) if entry.path else self._root
        try:
            if entry.kind == DIRECTORY:
                if entry.path:
                    os.mkdir(path, 0o700)
                self._directories.append(entry)  # its attributes come last: it may forbid writing into it
            elif entry.kind == HARD_LINK:
                os.link(os.path.join(self._root, entry.target), path, follow_symlinks=False)
            elif self._make(path, entry, data):
                self._set_attributes(path, entry)
        except OSError as error:
            raise _error(error, path, entry) from error

    def warnings(self) -> list[str]:
        """Return a warning for each kind of loss, with the first few paths that it befell."""
        found = []
        for why, paths in self._losses.items():
            found.append(f"{named(paths)} {why}")
        return found

    def _warn(self, why: str, path: str) -> None:
        self._losses.setdefault(why, []).append(path)

    def finish(self) -> None:
        for entry in reversed(self._directories):
            path = os.path.join(self._root, entry.path) if entry.path else self._root
            try:
                self._set_attributes(path, entry)
            except OSError as error:
                raise _error(error, path, entry) from error

    def _make(self, path: bytes, entry: Entry, data: Data | None) -> bool:
        """Create anything but a directory or a link; False if this user cannot, and need not."""
        if data is not None:
            with open(path, "xb", buffering=0) as stream:
                for piece in data:
                    stream.write(piece)
        elif entry.kind == SYMLINK:
            os.symlink(entry.target, path)
        elif entry.kind == FIFO:
            os.mkfifo(path, 0o600)
        elif not self._privileged:
            self._warn("is a device node, which an ordinary user cannot make; it was left out", shown_path(entry.path))
            return False
        else:
            kind = {CHARACTER: stat.S_IFCHR, BLOCK: stat.S_IFBLK}[entry.kind]
            os.mknod(path, kind | 0o600, os.makedev(*entry.device))
        return True

    def _set_attributes(self, path: bytes, entry: Entry) -> None:
        if self._privileged:
            os.chown(path, entry.uid, entry.gid, follow_symlinks=False)
        for name, value in entry.xattrs:
            self._set_xattr(path, entry, name, value)
        if entry.kind != SYMLINK:
            # after chown, which takes setuid and setgid away
            needed = 0 if self._privileged else 0o700 if entry.kind == DIRECTORY else 0o600
            os.chmod(path, entry.mode | needed)
        time = max(0, min(entry.mtime, _LAST_TIME))
        os.utime(path, (time, time), follow_symlinks=False)

    def _set_xattr(self, path: bytes, entry: Entry, name: str, value: bytes) -> None:
        try:
            os.setxattr(path, name, value, follow_symlinks=False)
        except OSError as error:
            if error.errno in (errno.EPERM, errno.EACCES) and not self._privileged:
                self._warn("lacks an attribute that an ordinary user cannot set", f"{shown_path(entry.path)} ({name})")
            elif error.errno in _UNFIT_XATTR:
                why = "lacks an attribute that the file system of tmpdir cannot hold"
                self._warn(why, f"{shown_path(entry.path)} ({name})")
            else:
                raise


def _error(error: OSError, path: bytes, entry: Entry) -> StorageError | NoSpace:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return storage_error(error, os.fsdecode(path))
    return StorageError(
        f"cannot write {shown_path(entry.path)} of the image ({entry.kind}): {error.strerror}; "
        "check the file system that tmpdir is on"
    )
