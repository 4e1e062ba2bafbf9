# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The store: where the file of an image lies, and whether a file is still what the inventory says."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Callable
from contextlib import suppress

from .errors import StorageError
from .files import link_in_place, make_directory, need_space, need_writable, replacing, storage_error
from .reference import Reference

PRESENT, MISSING, MODIFIED = "present", "missing", "modified"

_CHUNK = 1024 * 1024  # bytes
_NO_LINK = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS, errno.EACCES)


def place(storage: str, reference: Reference, dest: str | None = None, many: bool = False) -> str:
    """The absolute path of an image's file.

    :param storage: root of the store, used where no ``dest`` is given.
    :param dest: a file; or a directory for files, if it is one, ends with a slash, or there are ``many`` images.
    :raises StorageError: if the path is not absolute.
    """
    if dest is None:
        path = os.path.join(storage, reference.file_name)
    elif many or dest.endswith("/") or os.path.isdir(dest):
        path = os.path.join(dest, os.path.basename(reference.file_name))
    else:
        path = dest
    if not os.path.isabs(path):
        raise StorageError(f"{path!r} is no absolute path; write storage and dest with a leading '/'")
    return os.path.normpath(path)


def state(path: str, size: int, mtime_ns: int, sha256: str, checksum: bool) -> str:
    """Whether a recorded file is there and unchanged, by size and mtime, or by its whole content.

    :param size: in bytes, as recorded; so are ``mtime_ns`` (ns since the epoch) and ``sha256`` (hexadecimal, empty for
        a directory, which is there to be changed).
    :param checksum: read all of a file and compare its sha256; a changed mtime alone then does not matter.
    :returns: ``present``, ``missing`` or ``modified``.
    :raises StorageError: if it cannot be looked at.
    """
    try:
        status = os.stat(path)
        if not sha256:
            return PRESENT if stat.S_ISDIR(status.st_mode) else MODIFIED
        if status.st_size != size:
            return MODIFIED
        if not checksum:
            return PRESENT if status.st_mtime_ns == mtime_ns else MODIFIED
        return PRESENT if _checksum(path) == sha256 else MODIFIED
    except (FileNotFoundError, NotADirectoryError):
        return MISSING
    except OSError as error:
        raise storage_error(error, path) from error


def checksum(path: str) -> str:
    """The SHA-256 of a file, in hexadecimal.

    :raises StorageError: if it cannot be read.
    """
    try:
        return _checksum(path)
    except OSError as error:
        raise storage_error(error, path) from error


def copy(source: str, path: str, prepare: Callable[[str], None]) -> str:
    """Copy a file to a path, in the place of what is there.

    :param prepare: sets owner and mode of the copy before it gets its name.
    :returns: the SHA-256 of the copy, in hexadecimal.
    :raises StorageError, NoSpace: if that fails; what was there is then as before.
    """
    hasher = hashlib.sha256()
    make_directory(os.path.dirname(path))
    try:
        with open(source, "rb") as stream:
            need_space(os.path.dirname(path), os.fstat(stream.fileno()).st_size, f"a copy of {source}")
            with replacing(path, mode=0o777, prepare=prepare) as target:
                for chunk in iter(lambda: stream.read(_CHUNK), b""):
                    target.write(chunk)
                    hasher.update(chunk)
    except OSError as error:
        raise storage_error(error, source) from error
    return hasher.hexdigest()


def adopt(source: str, path: str, prepare: Callable[[str], None]) -> None:
    """Give a file another name, in the place of what is there; where that cannot be, copy it. ``source`` stays.

    :raises StorageError, NoSpace: if that fails; what was there is then as before.
    """
    make_directory(os.path.dirname(path))
    if not link_in_place(source, path, lambda _stream: True, prepare):
        copy(source, path, prepare)


def move_aside(source: str, path: str) -> None:
    """Give a file a second name that nobody has, with owner, mode and times as they are; ``source`` stays.

    :raises StorageError, NoSpace: if there is something at the path, or it cannot be written.
    """
    make_directory(os.path.dirname(path))
    try:
        os.link(source, path, follow_symlinks=False)
    except FileExistsError as error:
        if os.path.samefile(source, path):  # a run before this one was killed
            return
        raise StorageError(f"{path} is there already; remove it, or choose another name or dest") from error
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise storage_error(error, path) from error
        copy(source, path, lambda temporary: _pass_on(source, temporary))


def is_one_name(path: str, other: str) -> bool:
    """Whether two spellings lead to one name of one file, as through a symlink to its directory, or a bind mount.

    Two hard links are two names: one can go and the other stays.
    """
    try:
        status = os.lstat(path)
        if not os.path.samestat(status, os.lstat(other)):
            return False
        if status.st_nlink == 1:
            return True
        same_name = os.path.basename(path) == os.path.basename(other)
        return same_name and os.path.samefile(os.path.dirname(path), os.path.dirname(other))
    except OSError:
        return False


def discard(path: str) -> None:
    """Remove a file, or a link to one; that it is in use does not matter, and that it is gone neither.

    :raises StorageError: if it is a directory, or cannot be removed.
    """
    try:
        if stat.S_ISDIR(os.lstat(path).st_mode):
            raise StorageError(f"{path} is a directory and no image file; remove it with ansible.builtin.file")
        os.unlink(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise storage_error(error, path) from error


def need_removable(path: str) -> None:
    """Refuse early what ``discard`` could not remove.

    :raises StorageError: naming it.
    """
    if os.path.isdir(path) and not os.path.islink(path):
        raise StorageError(f"{path} is a directory and no image file; remove it with ansible.builtin.file")
    if os.path.lexists(path):
        need_writable(os.path.dirname(path))


def _pass_on(source: str, target: str) -> None:
    status = os.stat(source)
    with suppress(PermissionError):  # an ordinary user cannot give a file away
        os.chown(target, status.st_uid, status.st_gid)
    shutil.copystat(source, target)


def _checksum(path: str) -> str:
    hasher = hashlib.sha256()
    with open(path, "rb") as stream:
        for chunk in iter(lambda: stream.read(_CHUNK), b""):
            hasher.update(chunk)
    return hasher.hexdigest()
