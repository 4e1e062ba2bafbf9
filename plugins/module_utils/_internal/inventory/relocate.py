# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images that get another path: what cannot be moved, how a move is undone, how a file is taken over."""

from __future__ import annotations

import os
from collections.abc import Callable

from ..errors import StorageError
from ..fs import guard, permit
from ..fs.files import link_in_place, make_directory, nearest, storage_error
from .paths import copy, entry, entry_in, is_one_name, needs, on_another_file_system


def leads_to(path: str, other: str) -> bool:
    """Return whether a path is a symlink that would lead to nothing if another one were gone."""
    return needs(path, other) and entry(path) != entry(other)


def adopt(source: str, path: str, prepare: Callable[[str], None]) -> None:
    """Give a file another name, in the place of what is there; where that cannot be, copy it. ``source`` stays.

    :raises StorageError, NoSpace: if that fails; what was there is then as before.
    """
    make_directory(os.path.dirname(path))
    try:
        with permit.reading(source) as held:
            status = os.stat(held)
            if not link_in_place(source, path, lambda it: os.path.samestat(os.fstat(it.fileno()), status), prepare):
                copy(held, path, prepare)
    except OSError as error:
        raise storage_error(error, source) from error


def move_back(source: str, path: str) -> None:
    """Undo ``move_aside``.

    :raises OSError: if that fails; there is a whole file at both paths then, or a directory at the new one.
    """
    with guard.reached(os.path.dirname(source)) as old, guard.reached(os.path.dirname(path)) as new:
        if os.path.isdir(path) and not os.path.islink(path):
            os.rename(entry_in(new, path), entry_in(old, source))
        elif os.path.lexists(source) and not is_one_name(source, path):
            os.unlink(entry_in(new, path))


def need_movable(source: str, path: str) -> None:
    """Refuse early what ``move_aside`` could not move: a directory into itself, or to another file system; a symlink
    that would lead elsewhere from there.

    :raises StorageError: naming both.
    """
    place = nearest(os.path.dirname(path))
    if os.path.islink(source):
        target, stays = os.readlink(source), os.lstat(source).st_dev == os.stat(place).st_dev  # else it is copied
        beside_it = place == os.path.dirname(path) and os.path.samefile(os.path.dirname(source), place)
        if stays and not os.path.isabs(target) and not beside_it:
            raise StorageError(
                f"{source} is a symlink to {target}, which leads elsewhere from {os.path.dirname(path)}; let it lead "
                f"to {os.path.realpath(source)}, or choose a dest beside it"
            )
        if not stays and os.path.isdir(source):
            raise on_another_file_system(source, path)
        return
    if not os.path.isdir(source):
        return
    if os.path.join(os.path.realpath(place), "").startswith(os.path.join(os.path.realpath(source), "")):
        raise StorageError(f"{source} is a directory, and cannot be moved into itself, to {path}; choose another dest")
    if os.lstat(source).st_dev != os.stat(place).st_dev:
        raise on_another_file_system(source, path)
