# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The names in directories that lead to an image: which of them are one, and how an image gets them, and loses them."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress

from ..errors import StorageError
from ..fs import guard, permit
from ..fs.digest import hash_of
from ..fs.files import make_directory, need_space, need_writable, replacing, storage_error
from ..fs.tempdir import beside, need_safe
from ..sif.formats import is_sandbox

DirectoryEntry = tuple[object, str]
"""A directory itself, as device and inode, and a name in it: what all spellings of a path have in common."""

_NO_LINK = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS, errno.EACCES)
_MAX_NAME = 255  # bytes of one name
_MAX_LINKS = 40  # that Linux follows for one path (path_resolution(7))


def entry(path: str) -> DirectoryEntry:
    """Return the entry that a path names; a symlink is one itself."""
    directory, name = os.path.split(path)
    try:
        status = os.stat(directory)
    except OSError:
        return directory, name
    return (status.st_dev, status.st_ino), name


def entries(path: str) -> set[DirectoryEntry]:
    """Return all entries that a path needs: the one that it names and, if that is a symlink, those that it leads to."""
    found = {entry(path)}
    for _link in range(_MAX_LINKS):
        try:
            target = os.readlink(path)
        except OSError:
            break
        path = os.path.join(os.path.dirname(path), target.rstrip("/"))
        found.add(entry(path))
    return found


def needs(path: str, other: str) -> bool:
    """Return whether a path has no file without another one: both name one entry, or it is a symlink to that."""
    return entry(other) in entries(path)


def is_second_name(path: str, other: str) -> bool:
    """Return whether two paths are hard links to one file, or one name of it. A symlink is not a name of the file."""
    try:
        return os.path.samestat(os.lstat(path), os.lstat(other))
    except OSError:
        return False


def copy(source: str, path: str, prepare: Callable[[str], None]) -> str:
    """Copy a file to a path, in the place of what is there.

    :param prepare: sets owner and mode of the copy before it gets its name.
    :returns: the SHA-256 of the copy, in hexadecimal.
    :raises StorageError, NoSpace: if that fails; what was there is then as before.
    """
    make_directory(os.path.dirname(path))
    try:
        with permit.reading(source) as held, open(held, "rb") as stream:
            need_space(os.path.dirname(path), os.fstat(stream.fileno()).st_size, f"a copy of {source}")
            with replacing(path, mode=0o777, prepare=prepare) as target:
                return hash_of(stream, copy=target).hexdigest()
    except OSError as error:
        raise storage_error(error, source) from error


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
        with guard.reached(os.path.dirname(source)) as old, guard.reached(os.path.dirname(path)) as new:
            os.link(entry_in(old, source), entry_in(new, path), follow_symlinks=False)
    except FileExistsError as error:
        if is_second_name(source, path):  # a run before this one was killed
            return
        raise StorageError(f"{path} is there already; remove it, or choose another name or dest") from error
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise storage_error(error, path) from error
        with permit.reading(source) as held:  # what it is passed on of is then what was copied
            copy(held, path, lambda temporary: _pass_on(held, temporary))


def backup_name(path: str) -> str:
    """Return a free name beside a path, as ``AnsibleModule.backup_local`` calls a copy of what lies there."""
    directory, name = os.path.split(path)
    moment = f".{os.getpid()}.{time.strftime('%Y-%m-%d@%H:%M:%S')}"
    for end in (f"{moment}{more}~" for more in ("", *(f".{number}" for number in range(1, 100)))):
        backup = os.path.join(directory, os.fsdecode(os.fsencode(name)[: _MAX_NAME - len(end)]) + end)
        if not os.path.lexists(backup):
            break
    return backup


def back_up(path: str, done: str | None = None) -> str | None:
    """Give what lies at a path a second name beside it, so that it is still there when something takes its place.

    No byte is copied where the file system has hard links. The name does not end as that of an image does, so that no
    sweep takes it for one.

    :param done: the name that it got before, by a try to replace it that failed.
    :returns: that name; None if there is nothing at the path.
    :raises StorageError, NoSpace: if that fails.
    """
    if done or not os.path.lexists(path):
        return done
    name = backup_name(path)
    move_aside(path, name)
    return name


def is_one_name(path: str, other: str) -> bool:
    """Return whether two spellings lead to one name of one file, as through a symlink to its directory.

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
            with guard.reached(os.path.dirname(path)) as held:
                os.unlink(entry_in(held, path))
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise storage_error(error, path) from error


def need_removable(path: str) -> None:
    """Refuse early what ``discard`` could not remove.

    :raises StorageError: naming it.
    """
    if os.path.isdir(path) and not os.path.islink(path):
        if not is_sandbox(path):
            raise StorageError(f"{path} is a directory and no image; remove it with ansible.builtin.file")
        need_safe(os.path.dirname(path), "a path")
    if os.path.lexists(path):
        need_writable(os.path.dirname(path))


def _move_directory(source: str, path: str) -> None:
    if os.path.lexists(path):
        raise StorageError(f"{path} is there already; remove it, or choose another name or dest")
    try:
        with guard.reached(os.path.dirname(source)) as old, guard.reached(os.path.dirname(path)) as new:
            os.rename(entry_in(old, source), entry_in(new, path))
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        raise on_another_file_system(source, path) from error


def on_another_file_system(source: str, path: str) -> StorageError:
    """Return the error of a directory that would have to move to another file system."""
    return StorageError(f"{source} is a directory, and {path} is on another file system; build it there")


def entry_in(place: str, path: str) -> str:
    """Return a path in its directory, as that is held."""
    return os.path.join(place, os.path.basename(path))


def _pass_on(source: str, target: str) -> None:
    with permit.changing(target) as descriptor:
        new = target if descriptor is None else f"/proc/self/fd/{descriptor}"
        status = os.stat(source)
        with suppress(PermissionError):  # an ordinary user cannot give a file away
            os.chown(new, status.st_uid, status.st_gid)
        shutil.copystat(source, new)
