# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Temporary directories, which go with the block that they are for, or with the next run if that was killed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from .. import programs
from ..errors import StorageError
from . import stale
from .files import storage_error
from .guard import intruders, reached, safe_path


@contextmanager
def temporary_directory(parent: str) -> Iterator[str]:
    """Make a directory for the time of a block, removed whatever happens.

    It is locked meanwhile, so that what a killed run left behind is known as such, and removed by the next one.

    :raises StorageError: if it cannot be made, or if root would work where others can move files about.
    """
    need_safe(parent, "a tmpdir")
    _remove_trees(stale.abandoned_directories(parent))
    with _directory(parent, stale.prefix()) as path:
        yield path


@contextmanager
def beside(path: str) -> Iterator[str]:
    """Make a hidden directory beside the path of a new file or directory, for the time of a block, removed
    whatever happens; what a killed run left of it is removed by the next one.

    :param path: absolute, in a directory that exists.
    :raises StorageError: if it cannot be made, or if root would work where others can move files about.
    """
    parent = os.path.dirname(path)
    need_safe(parent, "a path")
    _remove_trees(stale.abandoned_beside(path))
    try:
        with reached(parent) as place, _directory(place, stale.prefix(path), stale.SUFFIX, parent) as directory:
            yield directory
    except OSError as error:
        raise storage_error(error, path) from error


@contextmanager
def _directory(parent: str, prefix: str, suffix: str = "", known: str = "") -> Iterator[str]:
    """Make a directory and hold it; where a group may write to its parent, by a path that is of this very directory.

    :param known: the parent, as errors call it.
    """
    try:
        path = tempfile.mkdtemp(prefix=prefix, suffix=suffix, dir=parent)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise storage_error(error, known or parent) from error
    try:
        stale.protect(descriptor)
        if known in ("", parent):
            yield path
            return
        name = os.path.join(known, os.path.basename(path))
        if os.fstat(descriptor).st_uid != os.geteuid():
            raise StorageError(f"{name} was taken by another user; let only root write to {known}, or run this again")
        with safe_path(descriptor, name) as held:
            yield held
    finally:
        remove_tree(path)
        os.close(descriptor)


def need_safe(directory: str, option: str) -> None:
    """Refuse to let root build where another user could put a symlink in the place of what root just made.

    :param option: what names the directory.
    :raises StorageError: if this is root, and another user could.
    """
    why = intruders(directory) if os.geteuid() == 0 else ""
    if why:
        raise StorageError(
            f"{directory} is not safe for temporary files of root: {why}; give {option} that belongs to root, in "
            "directories that belong to root, or one with the sticky bit, as /tmp"
        )


def remove_stale(directory: str, base: str = "") -> None:
    """Remove what killed runs left in a directory of what was to get a name there, whatever name that was.

    :param base: as for ``guard.reached``; where root must not go, nothing is removed.
    """
    with suppress(OSError, StorageError), reached(directory, base) as place:
        for path in stale.found_in(place):
            with suppress(OSError):
                if os.path.isdir(path):
                    remove_tree(path)
                else:
                    os.unlink(path)


def _remove_trees(left: Iterator[str]) -> None:
    """Remove directories, and what is in them."""
    for path in left:
        with suppress(OSError):
            remove_tree(path)


def remove_tree(path: str) -> None:
    """Remove a directory and all that is in it, as far as that is possible."""
    with suppress(RecursionError):  # Python before 3.13 calls itself for each level
        shutil.rmtree(path, ignore_errors=True)
    remove = ["rm", "-rf", "--", path]
    if os.path.lexists(path):
        _run(remove)
    if os.path.lexists(path) and os.geteuid() != 0:
        # it holds files of this user's subordinate identifiers, as builds with fakeroot make them
        with suppress(OSError):
            _run(["unshare", "--user", "--map-auto", "--map-root-user", *remove])


def _run(command: list[str]) -> None:
    subprocess.run(command, check=False, capture_output=True, env=programs.inherited())
