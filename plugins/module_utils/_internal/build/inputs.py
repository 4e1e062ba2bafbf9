# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The things on this host that go into a build, as digests: files that are copied, images, directories."""

from __future__ import annotations

import glob
import hashlib
import os
import stat
from collections.abc import Iterator, Sequence

from ..fs.digest import sha256_of
from ..fs.files import storage_error


def digest_of_text(text: str) -> str:
    """Return the digest of a text in UTF-8."""
    return f"sha256:{hashlib.sha256(text.encode('utf-8', 'surrogateescape')).hexdigest()}"


def digest_of_image(path: str) -> str:
    """Return the digest of an image on this host: of a file's content, or of a directory tree as ``digest_of_tree``.

    :raises StorageError: if it is not there, or cannot be read.
    """
    return digest_of_tree(path) if os.path.isdir(path) else digest_of_file(path)


def digest_of_file(path: str) -> str:
    """Return the digest of a file's content.

    :raises StorageError: if it cannot be read.
    """
    return f"sha256:{sha256_of(path)}"


def digest_of_tree(root: str) -> str:
    """Return the digest of a tree, without reading its files: of each path, kind and mode, owner, size, time of the
    last change, target of a link, numbers of a device.

    One ``lstat`` for each entry, so some seconds for a million. A change that keeps size and time goes unnoticed, as
    with ``rsync``; so does one in a directory that this user may not read.

    :raises StorageError: if it cannot be looked at.
    """
    hasher = hashlib.sha256()
    for name, path in _walk(os.fsencode(root)):
        try:
            status = os.lstat(path)
            target = os.readlink(path) if stat.S_ISLNK(status.st_mode) else b""
        except OSError as error:
            raise storage_error(error, os.fsdecode(path)) from error
        is_file = stat.S_ISREG(status.st_mode)
        known = (status.st_mode, status.st_uid, status.st_gid, status.st_rdev, status.st_size if is_file else 0)
        hasher.update(repr((name, known, status.st_mtime_ns, target)).encode())
    return f"sha256:{hasher.hexdigest()}"


def size_of_tree(root: str) -> int:
    """Return the bytes of all regular files below a directory, each inode once, as far as this user may look."""
    sizes: dict[tuple[int, int], int] = {}
    for _name, path in _walk(os.fsencode(root)):
        status = os.lstat(path)
        if stat.S_ISREG(status.st_mode):
            sizes[status.st_dev, status.st_ino] = status.st_size
    return sum(sizes.values())


def _walk(root: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield all paths of a tree, below its root and in full, in an order that depends on nothing but the names.

    :raises StorageError: if a directory cannot be read, though this user may.
    """

    def refuse(error: OSError) -> None:
        if not isinstance(error, PermissionError):
            raise storage_error(error, os.fsdecode(root)) from error

    yield b"", root
    for parent, directories, files in os.walk(root, onerror=refuse):
        directories.sort()
        for name in sorted([*directories, *files]):
            path = os.path.join(parent, name)
            yield path[len(root) + 1 :], path


def is_plain(source: str) -> bool:
    """Tell whether the shell of an engine takes a source of ``%files`` as it is, but for ``*``, ``?`` and ``[…]``."""
    return not any(character in source for character in "$`{}~\\()|&;<>'\"")


def missing_files(sources: Sequence[str], directory: str) -> list[str]:
    """Return the paths that a definition copies from the host, and that are not there.

    :param sources: as they stand in ``%files``: names, or patterns of a shell.
    :param directory: what relative ones start from.
    """
    plain = (source for source in sources if is_plain(source))
    return [path for source in plain for path in _matching(source, directory) if not os.path.exists(path)]


def digest_of_files(sources: Sequence[str], directory: str) -> str:
    """Return the digest of the content and the permissions of all that a definition copies from the host, through
    symlinks, as ``cp -fLr`` does. A path that is not there counts as such.

    :param sources, directory: as for ``missing_files``.
    :raises StorageError: if something cannot be read.
    """
    hasher = hashlib.sha256()
    for source in sources:
        hasher.update(os.fsencode(source) + b"\0")
        for path in _matching(source, directory) if is_plain(source) else ():
            for content in _contents(path) if os.path.exists(path) else ():
                hasher.update(repr(content).encode("utf-8", "backslashreplace"))
    return f"sha256:{hasher.hexdigest()}"


def _matching(source: str, directory: str) -> list[str]:
    """Return the paths that a pattern stands for; the pattern itself if there are none, as a shell does."""
    path = os.path.join(directory, source)
    return sorted(glob.glob(path, recursive=True)) or [path]


def _contents(path: str) -> Iterator[tuple[str, int, str]]:
    """Yield each file and directory at or below a path: its name from there, its permissions, the digest of a file."""
    visited: set[tuple[int, int]] = set()

    def below(full: str, name: str) -> Iterator[tuple[str, int, str]]:
        try:
            status = os.stat(full)
            mode = stat.S_IMODE(status.st_mode)
            if not stat.S_ISDIR(status.st_mode):
                yield name, mode, digest_of_file(full) if stat.S_ISREG(status.st_mode) else str(status.st_mode)
                return
            if (status.st_dev, status.st_ino) in visited:
                return
            visited.add((status.st_dev, status.st_ino))
            yield name, mode, ""
            entries = sorted(os.listdir(full))
        except OSError as error:
            raise storage_error(error, full) from error
        for entry in entries:
            yield from below(os.path.join(full, entry), f"{name}/{entry}")

    yield from below(path, os.path.basename(path.rstrip("/")))
