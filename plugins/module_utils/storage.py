# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The store: where the file of an image lies, and whether a file is still what the inventory says."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress

from .digest import hash_of, matches
from .errors import StorageError
from .files import link_in_place, make_directory, nearest, need_space, need_writable, replacing, storage_error
from .format import is_sandbox
from .reference import Reference
from .scratch import beside

PRESENT, MISSING, MODIFIED = "present", "missing", "modified"

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

    :param size: in bytes, as recorded; so are ``mtime_ns`` (ns since the epoch) and ``sha256`` (hexadecimal; empty for
        a directory, which is there to be changed).
    :param checksum: read all of it and compare its sha256; a changed mtime alone then does not matter.
    :returns: ``present``, ``missing`` or ``modified``.
    :raises StorageError: if it cannot be looked at.
    """
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode) or not sha256:
            return PRESENT if stat.S_ISDIR(status.st_mode) and not sha256 else MODIFIED
        if status.st_size != size:
            return MODIFIED
        if not checksum:
            return PRESENT if status.st_mtime_ns == mtime_ns else MODIFIED
        with open(path, "rb") as stream:
            return PRESENT if matches(stream, f"sha256:{sha256}") else MODIFIED
    except (FileNotFoundError, NotADirectoryError):
        return MISSING
    except OSError as error:
        raise storage_error(error, path) from error


def copy(source: str, path: str, prepare: Callable[[str], None]) -> str:
    """Copy a file to a path, in the place of what is there.

    :param prepare: sets owner and mode of the copy before it gets its name.
    :returns: the SHA-256 of the copy, in hexadecimal.
    :raises StorageError, NoSpace: if that fails; what was there is then as before.
    """
    make_directory(os.path.dirname(path))
    try:
        with open(source, "rb") as stream:
            need_space(os.path.dirname(path), os.fstat(stream.fileno()).st_size, f"a copy of {source}")
            with replacing(path, mode=0o777, prepare=prepare) as target:
                return hash_of(stream, copy=target).hexdigest()
    except OSError as error:
        raise storage_error(error, source) from error


def adopt(source: str, path: str, prepare: Callable[[str], None]) -> None:
    """Give a file another name, in the place of what is there; where that cannot be, copy it. ``source`` stays.

    :raises StorageError, NoSpace: if that fails; what was there is then as before.
    """
    make_directory(os.path.dirname(path))
    if not link_in_place(source, path, lambda _stream: True, prepare):
        copy(source, path, prepare)


def move_aside(source: str, path: str) -> None:
    """Give a file a second name that nobody has, with owner, mode and times as they are; ``source`` stays.

    A directory cannot have two names: it moves.

    :raises StorageError, NoSpace: if there is something at the path, or it cannot be written.
    """
    make_directory(os.path.dirname(path))
    try:
        if os.path.isdir(source) and not os.path.islink(source):
            _move_directory(source, path)
            return
        os.link(source, path, follow_symlinks=False)
    except FileExistsError as error:
        if os.path.samefile(source, path):  # a run before this one was killed
            return
        raise StorageError(f"{path} is there already; remove it, or choose another name or dest") from error
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise storage_error(error, path) from error
        copy(source, path, lambda temporary: _pass_on(source, temporary))


def need_movable(source: str, path: str) -> None:
    """Refuse early what ``move_aside`` could not move: a directory into itself, or to another file system.

    :raises StorageError: naming both.
    """
    if not os.path.isdir(source) or os.path.islink(source):
        return
    place = nearest(os.path.dirname(path))
    if os.path.join(os.path.realpath(place), "").startswith(os.path.join(os.path.realpath(source), "")):
        raise StorageError(f"{source} is a directory, and cannot be moved into itself, to {path}; choose another dest")
    if os.lstat(source).st_dev != os.stat(place).st_dev:
        raise _elsewhere(source, path)


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
    """Remove an image: a file, a link to one, or a directory that an engine has built. That it is in use does not
    matter, and that it is gone neither.

    :raises StorageError: if it is another directory, or cannot be removed.
    """
    need_removable(path)
    try:
        if os.path.isdir(path) and not os.path.islink(path):
            with beside(path) as place:
                os.rename(path, os.path.join(place, "gone"))
            if os.path.lexists(place):
                raise StorageError(f"not all of {place}, which was {path}, could be removed; remove it as root")
        else:
            os.unlink(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise storage_error(error, path) from error


def need_removable(path: str) -> None:
    """Refuse early what ``discard`` could not remove.

    :raises StorageError: naming it.
    """
    if os.path.isdir(path) and not os.path.islink(path) and not is_sandbox(path):
        raise StorageError(f"{path} is a directory and no image; remove it with ansible.builtin.file")
    if os.path.lexists(path):
        need_writable(os.path.dirname(path))


def image_files(directory: str, suffixes: tuple[str, ...]) -> Iterator[str]:
    """The files below a directory whose names end so; no symlink is followed, no image entered, nothing hidden seen."""
    for place, directories, files in os.walk(directory):
        directories[:] = sorted(
            name for name in directories if not name.startswith(".") and not is_sandbox(os.path.join(place, name))
        )
        for name in sorted(files):
            path = os.path.join(place, name)
            if name.endswith(suffixes) and not name.startswith(".") and not os.path.islink(path):
                yield path


def _move_directory(source: str, path: str) -> None:
    if os.path.lexists(path):
        raise StorageError(f"{path} is there already; remove it, or choose another name or dest")
    try:
        os.rename(source, path)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        raise _elsewhere(source, path) from error


def _elsewhere(source: str, path: str) -> StorageError:
    return StorageError(f"{source} is a directory, and {path} is on another file system; build it there")


def _pass_on(source: str, target: str) -> None:
    status = os.stat(source)
    with suppress(PermissionError):  # an ordinary user cannot give a file away
        os.chown(target, status.st_uid, status.st_gid)
    shutil.copystat(source, target)
