# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files that appear whole or not at all, and the room that they need."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import IO

from ..errors import NoSpace, StorageError
from ..text import in_words
from . import guard, stale

_FICLONE = 0x40049409  # ioctl_ficlone(2)
_CHUNK = 1024 * 1024  # bytes
_FULL = (errno.ENOSPC, errno.EDQUOT)
_TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EISDIR)  # rename(2), of a directory and something else
_MAX_SWAPS = 10


def make_directory(path: str, mode: int = 0o755, base: str = "") -> None:
    """Create a directory and its parents, of which each belongs to the owner of the one that it is in.

    :param base: below this one, no symlink of another user counts for root.
    :raises StorageError: naming the first part that cannot be made, or that root must not follow.
    """
    try:
        with guard.reached(path, base, mode):
            pass
    except OSError as error:
        raise storage_error(error, path) from error


def read_regular(path: str, limit: int) -> bytes:
    """Return the content of a regular file; no symlink is followed, no pipe waited for.

    :param limit: bytes; a larger file is refused.
    :raises OSError: if it is another kind of file, too large, or cannot be read.
    """
    return read_word(path, limit)[0]


def read_word(path: str, limit: int) -> tuple[bytes, int]:
    """Return the same as ``read_regular``, and whose word it is, as ``guard.word_of`` tells it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size > limit:
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file of a reasonable size", path)
    with os.fdopen(descriptor, "rb") as stream:
        return stream.read(limit), guard.word_of(status)


def swap_in(source: str, path: str, aside: str) -> None:
    """Put a finished directory or file at a path where a directory is, or was; what was there goes aside.

    :param source, aside: names on the same file system; nothing is at the second, nor at names that begin so.
    :raises StorageError: if it cannot be done; what was there is then as before.
    """
    try:
        with guard.reached(os.path.dirname(path)) as place:
            name = os.path.join(place, os.path.basename(path))
            _swap(source, name, aside)
            _sync_directory(place)
    except OSError as error:
        raise storage_error(error, path) from error


def _swap(source: str, path: str, aside: str) -> None:
    for number in range(_MAX_SWAPS):
        before = f"{aside}{number or ''}"
        with suppress(FileNotFoundError):
            os.rename(path, before)
        try:
            os.rename(source, path)
            return
        except OSError as error:
            if error.errno in _TAKEN and number + 1 < _MAX_SWAPS:
                continue  # a run that no lock keeps out was quicker: its own is as good, and is what goes aside now
            with suppress(OSError):
                os.rename(before, path)
            raise


@contextmanager
def replacing(
    path: str, mode: int = 0o666, prepare: Callable[[str], None] | None = None, sweep: bool = True
) -> Iterator[IO[bytes]]:
    """Write a file beside its destination; when the block ends well, make it durable and rename it into place.

    When the block fails nothing is left behind and the old file, if any, stays as it was.

    A file that is replaced passes on its owner, group and mode.

    :param mode: permission bits of a new file, before the umask.
    :param prepare: told the path of the finished file before it gets its name.
    :param sweep: remove what a killed run left of it, which takes a look at the whole directory.
    :raises StorageError: if it cannot be written; ``NoSpace`` if there is no room.
    """
    try:
        with guard.reached(os.path.dirname(path)) as place:
            name = os.path.join(place, os.path.basename(path))
            if sweep:
                stale.remove_files(name)
            with _temporary(name) as (stream, temporary):
                yield stream
                stream.flush()
                _pass_on(name, stream.fileno(), mode)
                os.fsync(stream.fileno())
                if prepare:
                    prepare(temporary)
                os.replace(temporary, name)
            _sync_directory(place)
    except OSError as error:
        raise storage_error(error, path) from error


@contextmanager
def _temporary(path: str) -> Iterator[tuple[IO[bytes], str]]:
    """Give a new file beside the path that it is to get, and its name; what did not get that in the end is removed."""
    descriptor, temporary = tempfile.mkstemp(prefix=stale.prefix(path), suffix=stale.SUFFIX, dir=os.path.dirname(path))
    try:
        with os.fdopen(descriptor, "w+b") as stream:
            stale.protect(descriptor)  # until it has its name, so it is closed only then
            yield stream, temporary
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def link_in_place(source: str, path: str, accept: Callable[[IO[bytes]], bool], prepare: Callable[[str], None]) -> bool:
    """Give a file another name, in the place of what is there, which passes on its owner, group and mode.

    :param accept: looks at the file, of which nobody else can put another in its place any more.
    :param prepare: told a name of the file before it gets its own.
    :returns: whether that was possible: it was accepted, and is on the same file system.
    :raises StorageError: if the file cannot be put in its place.
    """
    with ExitStack() as linked:
        try:
            place = linked.enter_context(guard.reached(os.path.dirname(path)))
            if place != os.path.dirname(path):
                return _copy_in_place(source, path, accept, prepare)
            temporary = linked.enter_context(_linked(source, path))
            descriptor = os.open(temporary, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return False  # there is none, or whatever it is, it is no file of ours
        try:
            with os.fdopen(descriptor, "rb") as stream:
                if not accept(stream):
                    return False
                _pass_on(path, stream.fileno(), 0o777)
            prepare(temporary)
            os.replace(temporary, path)
            _sync_directory(os.path.dirname(path))
        except OSError as error:
            raise storage_error(error, path) from error
    return True


def _copy_in_place(source: str, path: str, accept: Callable[[IO[bytes]], bool], prepare: Callable[[str], None]) -> bool:
    """Copy what ``link_in_place`` would link, where others are given it, or could put any file under the new name."""
    with os.fdopen(os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
        if not accept(stream):
            return False
        stream.seek(0)
        need_space(os.path.dirname(path), os.fstat(stream.fileno()).st_size, f"a copy of {source}")
        with replacing(path, mode=0o777, prepare=prepare) as target:
            clone(stream, target)
    return True


def give_name(source: str, path: str) -> None:
    """Give a file another name, in the place of what is there, and nothing but that.

    :raises OSError: if that is not possible, as across file systems.
    """
    with guard.reached(os.path.dirname(source)) as old, guard.reached(os.path.dirname(path)) as place:
        name = os.path.join(place, os.path.basename(path))
        with _linked(os.path.join(old, os.path.basename(source)), name) as temporary:
            os.replace(temporary, name)


@contextmanager
def _linked(source: str, path: str) -> Iterator[str]:
    """Give a hidden name of a file, beside the one that it may get, for the time of a block."""
    hidden = f"{stale.link_prefix(path)}{os.urandom(6).hex()}{stale.SUFFIX}"
    temporary = os.path.join(os.path.dirname(path), hidden)
    os.link(source, temporary, follow_symlinks=False)
    try:
        yield temporary
    finally:
        with suppress(FileNotFoundError):  # it stays where both were names of one file already
            os.unlink(temporary)


def clone(source: IO[bytes], target: IO[bytes]) -> None:
    """Copy a whole file into an empty one: as one that shares its blocks, where the file system can do that.

    :raises OSError: if it cannot be read or written.
    """
    try:
        fcntl.ioctl(target.fileno(), _FICLONE, source.fileno())
    except OSError:
        shutil.copyfileobj(source, target, _CHUNK)


def _pass_on(path: str, descriptor: int, mode: int) -> None:
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        status = None
    if status is None or not stat.S_ISREG(status.st_mode):
        guard.hand_over(descriptor, os.path.dirname(path))
        os.fchmod(descriptor, mode & ~umask())
        return
    with suppress(PermissionError):  # an ordinary user cannot give a file away
        os.fchown(descriptor, status.st_uid, status.st_gid)
    os.fchmod(descriptor, status.st_mode & 0o777)


def nearest(path: str) -> str:
    """Return the path itself, or the closest parent of it that exists."""
    while not os.path.exists(path):
        parent = os.path.dirname(path)
        if parent == path:
            break
        path = parent
    return path or "."


def need_writable(directory: str) -> None:
    """Refuse early where no file could be made.

    :raises StorageError: naming the directory.
    """
    existing = nearest(directory)
    if not os.path.isdir(existing):
        raise storage_error(NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)), existing)
    if not os.access(existing, os.W_OK | os.X_OK):
        code = errno.EROFS if os.statvfs(existing).f_flag & os.ST_RDONLY else errno.EACCES
        where = existing if existing == directory else f"{existing}, where {directory} is to be made"
        raise storage_error(OSError(code, os.strerror(code)), where)


def free_space(directory: str) -> int:
    """Return the bytes that an ordinary user can still write below a directory, which may be yet to be made.

    :raises StorageError: if it cannot be found out.
    """
    try:
        status = os.statvfs(nearest(directory))
    except OSError as error:
        raise storage_error(error, directory) from error
    return status.f_bavail * status.f_frsize


def need_space(directory: str, size: int, what: str) -> None:
    """Refuse early what cannot fit.

    :param size: bytes that will be written.
    :raises NoSpace: saying how much is needed and how much is there.
    """
    available = free_space(directory)
    if size > available:
        raise NoSpace(
            f"no space left in {directory}: {what} needs {in_words(size)}, it has {in_words(available)}; "
            "free some, or choose another directory"
        )


def storage_error(error: OSError, path: str) -> StorageError | NoSpace:
    """Return the error of this library for one of the operating system.

    :param path: what was worked at; the one that the system names counts more, since others may be written meanwhile.
    """
    concerned = error.filename2 or error.filename  # of a rename, what was to be replaced
    # A directory that is held is reached through /proc, which says nothing to people.
    named = concerned if isinstance(concerned, str) and not concerned.startswith("/proc/self/fd/") else path
    if error.errno in _FULL:
        if os.path.dirname(named) == os.path.dirname(path):
            named = path  # the other one is a temporary name of it
        with suppress(OSError):
            status = os.statvfs(nearest(os.path.dirname(named)))
            if status.f_files and not status.f_favail:
                return NoSpace(f"no space left while writing {named}: there are no inodes left; remove some files")
            left = in_words(status.f_bavail * status.f_frsize)
            return NoSpace(
                f"no space left while writing {named}: it needs more than the {left} that are free; free some"
            )
        return NoSpace(f"no space left while writing {named}; free some")
    reason = error.strerror or str(error)
    way_out = "check that the directory exists and that this user may write there"
    if error.errno in (errno.EACCES, errno.EPERM) and os.geteuid():
        way_out = "give the task become: true, or a place where this user may write"
    return StorageError(f"cannot use {named}: {reason}; {way_out}")


def umask() -> int:
    """Return the umask of this process. Reading it means setting it, so it is read once, while one thread runs."""
    return _UMASK


def _read_umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


_UMASK = _read_umask()


def _sync_directory(path: str) -> None:
    with suppress(OSError):  # some file systems have no fsync for directories; the rename is atomic all the same
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
