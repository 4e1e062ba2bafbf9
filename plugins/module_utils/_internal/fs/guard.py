# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# pylint: disable=contextmanager-generator-missing-cleanup  # contextlib ends a suspended generator, and its blocks

"""The limits of root in directories that other users can write to.

Root can do everything, so whoever can make root act on a path of his choice can do everything as well. Three rules
hold for all modules. Whoever is not root is stopped by the system, and by nothing here.

- A symlink counts if nobody but root can have made it. Another user's link counts on the way to a store, if it leads to
  a directory of that same user, where he could do all that himself. It never counts below a store.
- A directory is held open while root works in it, so that nobody can put another one in its place meanwhile.
- What root makes in another user's directory belongs to that user, who could not use it otherwise.

Which files root may act on, ``permit`` says.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ..errors import SregistryError, StorageError

ROOT, ANYBODY = 0, -1
"""Whose word something is: that of root, and of this user; that of several users."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
ENTRY = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_ACL = "system.posix_acl_access"
MAX_LINKS = 40  # that Linux follows for one path (path_resolution(7))


def intruders(directory: str, strict: bool = False) -> str:
    """Say who but root could put a file of his own in the place of one of this user's in a directory; empty for nobody.

    :param directory: it need not exist yet; its parents count too.
    :param strict: count also whom a group lets write, and who could only add a file to the directory.
    :raises StorageError: if it cannot be looked at.
    """
    path = real = os.path.realpath(directory)
    while True:
        try:
            status = looked_at(path)
        except FileNotFoundError:
            path = os.path.dirname(path)
            continue
        except OSError as error:
            raise StorageError(f"cannot look at {path}: {error.strerror}; let this user read it") from error
        why = writers(status, groups=strict, adding=strict and path == real)
        if why or path == "/":
            return f"{path}: {why}" if why else ""
        path = os.path.dirname(path)


def word_of(status: os.stat_result) -> int:
    """Return whose word an open file is: ``ROOT``, a user, or ``ANYBODY`` where several could have written it.

    A user could give root's file a second name in the place of one of his own.
    """
    shared = status.st_mode & stat.S_IWOTH or (status.st_mode & stat.S_IWGRP and status.st_gid)
    if shared or (status.st_uid == ROOT and status.st_nlink > 1):
        return ANYBODY
    return ROOT if status.st_uid == os.geteuid() else status.st_uid


@contextmanager
def reached(directory: str, base: str = "", mode: int | None = None) -> Iterator[str]:
    """Hold a directory for a block; gives the path to use for it, which means the same directory until the block ends.

    That is the directory's own path for whoever is not root, and where nobody but root could put something else there.

    :param base: below this one, no other user's symlink counts.
    :param mode: make what is missing; the permission bits of the last part. It belongs to the owner of what it is in.
    :raises OSError: if it cannot be reached or made.
    :raises StorageError: if another user's symlink is on the way.
    """
    if os.geteuid() != ROOT:
        if mode is not None:
            os.makedirs(directory, mode=mode, exist_ok=True)
        yield directory
        return
    way = Way(directory, mode)
    descriptor = way.to(base)
    try:
        with safe_path(descriptor, directory, way.exposed) as path:
            yield path
    finally:
        os.close(descriptor)


def need_way(path: str, base: str = "") -> None:
    """Refuse a path that leads through another user's symlink, as ``reached`` does. What is missing is made later.

    :param path: of a file or directory; it may be a symlink itself.
    :raises StorageError: saying which.
    """
    with suppress(OSError), reached(os.path.dirname(path), base):
        pass


def hand_over(descriptor: int, directory: str) -> None:
    """Let a new file of root belong to the owner of the directory that it is made in, if that is another user.

    :param descriptor: of a file that this process has just made.
    """
    if os.geteuid() == ROOT:
        _give(descriptor, os.stat(directory))


def made(path: str, flags: int, mode: int) -> int:
    """Open a file, made if it is not there; a new one belongs to the owner of the directory that it is in.

    :param path: in a directory that is held.
    :param flags: how it is opened; no symlink is followed, and nobody waited for.
    :param mode: the permission bits of a new file.
    :raises OSError: if it cannot be opened.
    """
    flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with suppress(FileExistsError):
        descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, mode)
        hand_over(descriptor, os.path.dirname(path))
        return descriptor
    return os.open(path, flags)


class Way:
    """A walk to a directory, part by part, so that each is looked at and held before the next is looked up in it."""

    def __init__(self, directory: str, mode: int | None = None) -> None:
        self.exposed = False  # whether somebody else could put another directory in the place of a part
        self.public = True  # whether every user can go there
        self._directory = os.path.abspath(directory)
        self._mode = mode
        self._links = 0

    def to(self, base: str = "") -> int:
        """Return the descriptor of the directory.

        :raises OSError, StorageError: as ``reached``.
        """
        held = held_descriptor(self._directory)
        if held is not None:
            self.exposed, self.public = True, False
            return os.dup(held)
        if not is_below(self._directory, base):
            return self._down(None, self._directory, self._mode, strict=False)
        base = os.path.abspath(base)
        above = self._down(None, base, None if self._mode is None else 0o777, strict=False)
        try:
            return self._down(above, self._directory[len(base) :].lstrip("/"), self._mode, strict=True)
        finally:
            os.close(above)

    def _down(self, start: int | None, path: str, mode: int | None, strict: bool) -> int:
        here = os.open("/", _DIRECTORY) if start is None or path.startswith("/") else os.dup(start)
        parts = [part for part in path.split("/") if part not in ("", ".")]
        for number, name in enumerate(parts, 1):
            try:
                needed = None if mode is None else mode if number == len(parts) else 0o777
                there = self._step(here, name, needed, strict)
            except OSError as error:
                if error.filename == name:  # else a symlink was followed
                    rest = "".join(f"/{part}" for part in parts[number:])
                    shown = "".join(f"/{part}" for part in parts[:number])
                    error.filename = shown if start is None else self._directory.removesuffix(rest)
                raise
            finally:
                os.close(here)
            here = there
        self._note(looked_at(here))
        return here

    def _step(self, here: int, name: str, mode: int | None, strict: bool) -> int:
        self._note(looked_at(here))
        try:
            return os.open(name, _DIRECTORY, dir_fd=here)  # not O_PATH, which would not mount what is mounted on use
        except FileNotFoundError:
            if mode is None:
                raise
            return _made(here, name, mode)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENOTDIR, errno.EACCES):
                raise
        there = os.open(name, ENTRY, dir_fd=here)
        status = os.fstat(there)
        if stat.S_ISDIR(status.st_mode):
            return there
        try:
            if not stat.S_ISLNK(status.st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), name)
            return self._along(here, there, name, strict)
        finally:
            os.close(there)

    def _along(self, here: int, link: int, name: str, strict: bool) -> int:
        """Follow a symlink; return the descriptor of the directory that it leads to."""
        self._links += 1
        if self._links > MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), self._directory)
        status, target = os.fstat(link), os.readlink("", dir_fd=link)
        trusted = is_roots_link(status, looked_at(here))
        if strict and not trusted:
            raise foreign(self._directory, name, target, status)
        there = self._down(here, target, None, strict=False)
        if not trusted and not leads_home(status, os.fstat(there)):
            os.close(there)
            raise foreign(self._directory, name, target, status)
        return there

    def _note(self, status: os.stat_result) -> None:
        self.exposed = self.exposed or bool(writers(status, groups=True))
        self.public = self.public and bool(status.st_mode & stat.S_IXOTH)


def _made(here: int, name: str, mode: int) -> int:
    """Return a new directory, which belongs to the owner of the one that it is in."""
    with suppress(FileExistsError):
        os.mkdir(name, mode, dir_fd=here)
        descriptor = os.open(name, _DIRECTORY, dir_fd=here)
        if not os.listdir(descriptor):  # else somebody has put another one there already
            _give(descriptor, os.fstat(here))
        return descriptor
    return os.open(name, _DIRECTORY, dir_fd=here)


def _give(descriptor: int, holder: os.stat_result) -> None:
    if holder.st_uid != ROOT and os.fstat(descriptor).st_uid == ROOT:
        with suppress(OSError):  # a file system may keep root from that, and from being root
            os.fchown(descriptor, holder.st_uid, holder.st_gid)


@contextmanager
def safe_path(descriptor: int, path: str, exposed: bool = True) -> Iterator[str]:
    """Give the path to use for an open file or directory, for a block. Where another user could put something else in
    its place, that is one through /proc (proc(5)), for this process and those that it starts: it means what is open.
    Errors of the block tell its own path. Without /proc, that serves.

    :param exposed: whether another user could do so.
    """
    held = os.path.join(_descriptors(), str(descriptor))
    try:
        yield held if exposed and os.path.exists(held) else path
    except SregistryError as error:
        if held not in str(error):
            raise
        raise type(error)(str(error).replace(held, path)) from error
    except OSError as error:
        for name in ("filename", "filename2"):
            if isinstance(getattr(error, name), str):
                setattr(error, name, getattr(error, name).replace(held, path))
        raise


def held_descriptor(path: str) -> int | None:
    """Return the descriptor of what is open, for a path that ``safe_path`` gave; None for any other path."""
    directory, name = os.path.split(path)
    return int(name) if directory == _descriptors() and name.isdigit() else None


def _descriptors() -> str:
    return f"/proc/{os.getpid()}/fd"


def looked_at(directory: str | int) -> os.stat_result:
    """Return the status of a directory, by its path or open: the one that ``writers`` needs.

    An access control list shows in the bits of the group only, also where that is the group of root (acl(5)): the group
    is given as ``ANYBODY`` then.
    """
    status = os.stat(directory)
    if status.st_gid or not status.st_mode & stat.S_IWGRP:
        return status
    try:
        os.getxattr(directory, _ACL)
    except OSError:  # there is none, or the file system has none
        return status
    return os.stat_result((*status[:5], ANYBODY, *status[6:10]))


def writers(status: os.stat_result, groups: bool, adding: bool = False) -> str:
    """Say who but root and this user can put something in the place of what is in a directory; empty for nobody.

    :param groups: count whom a group lets write.
    :param adding: count who can only add something.
    """
    if status.st_uid not in (ROOT, os.geteuid()):
        return f"it belongs to the user {status.st_uid}"
    if status.st_mode & stat.S_ISVTX and not adding:
        return ""
    if status.st_mode & stat.S_IWOTH:
        return "every user may write there"
    if groups and status.st_mode & stat.S_IWGRP and status.st_gid:
        if status.st_gid == ANYBODY:
            return "its access control list lets others write there"
        return f"the group {status.st_gid} may write there"
    return ""


def is_roots_link(link: os.stat_result, holder: os.stat_result) -> bool:
    """Tell whether nobody but root can have made a symlink; with a second name it may be one from elsewhere."""
    return (link.st_uid == ROOT and link.st_nlink == 1) or not writers(holder, groups=True, adding=True)


def leads_home(link: os.stat_result, target: os.stat_result) -> bool:
    """Tell whether a symlink leads to what belongs to the user who made it."""
    return link.st_uid == target.st_uid != ROOT


def is_below(path: str, base: str) -> bool:
    """Tell whether a path lies below a directory, as both are written."""
    return bool(base) and os.path.abspath(path).startswith(os.path.join(os.path.abspath(base), ""))


def foreign(path: str, name: str, target: str, link: os.stat_result) -> StorageError:
    """Return the error of a path that leads through a symlink of another user."""
    return StorageError(
        f"{path} leads through the symlink {name!r} to {target}, which the user {link.st_uid} could have made, so root "
        "does not follow it; remove it, make it as root, or give the path that it leads to"
    )
