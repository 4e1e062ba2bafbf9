# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# pylint: disable=contextmanager-generator-missing-cleanup  # contextlib ends a suspended generator, and its blocks

"""The files below a store that are named as images, and the leftovers of killed runs; not those of other stores."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

from ..errors import InventoryError, StorageError
from ..fs import guard, stale
from ..fs.tempdir import remove_tree
from ..sif.formats import SUFFIXES, is_sandbox
from .database import SUBDIRECTORY

_SUFFIXES = tuple(SUFFIXES.values())


def image_files(store: str, inventory: str) -> Iterator[str]:
    """Yield the files below a store that are named as images are; no symlink is followed.

    :param inventory: the directory of the inventory that this is for. What lies below a directory with another one
        belongs to that.
    """
    for place, names in _directories(store, inventory):
        for name in sorted(names):
            path = os.path.join(place, name)
            if name.endswith(_SUFFIXES) and not name.startswith(".") and not os.path.islink(path):
                yield path


def leftovers(store: str, inventory: str, check: bool) -> Iterator[str]:
    """Remove what killed runs left below a store, as ``leftover`` knows it.

    :param inventory: as for ``image_files``.
    :param check: remove nothing.
    :returns: the paths of what is gone, or would be.
    """
    for place, _names in _directories(store, inventory):
        with suppress(OSError, StorageError), guard.reached(place, store) as held:
            if os.access(held, os.W_OK | os.X_OK):
                for path in stale.found_in(held):
                    if check or _is_gone(path):
                        yield os.path.join(place, os.path.basename(path))


def store_directories(store: str, inventory: str) -> Iterator[str]:
    """Yield a store and the directories below it; no image and no other store is entered, and nothing hidden.

    :param inventory: as for ``image_files``.
    """
    for place, _names in _directories(store, inventory):
        yield place


def need_no_other_inventory(store: str, inventory: str) -> None:
    """Refuse to take what lies in a store for nobody's, if it is the store of another inventory.

    :raises InventoryError: naming both.
    """
    if _is_anothers(store, inventory):
        raise InventoryError(
            f"{store} has an inventory of its own, {os.path.join(store, SUBDIRECTORY)}, so that it cannot be swept by "
            f"{inventory}; sweep it without database, or remove the one that nobody uses any more"
        )


def other_store(path: str, inventory: str) -> str | None:
    """Return the nearest directory above a path that is a store with another inventory; None if there is none before
    the store of this one.
    """
    directory = os.path.dirname(path)
    while True:
        if _is_anothers(directory, inventory):
            return directory
        parent = os.path.dirname(directory)
        if parent == directory or os.path.lexists(os.path.join(directory, SUBDIRECTORY)):
            return None
        directory = parent


def _directories(store: str, inventory: str) -> Iterator[tuple[str, list[str]]]:
    """Yield a store and the directories below it, each with the names of its files; no image and no other store is
    entered, and nothing hidden.
    """
    for place, directories, names in os.walk(store):
        directories[:] = sorted(
            name
            for name, path in ((name, os.path.join(place, name)) for name in directories)
            if not name.startswith(".") and not is_sandbox(path) and not _is_anothers(path, inventory)
        )
        yield place, names


def _is_anothers(directory: str, inventory: str) -> bool:
    """Return whether a directory has an inventory, and that is another one."""
    own = os.path.join(directory, SUBDIRECTORY)
    if not os.path.lexists(own):
        return False
    try:
        return not os.path.samefile(own, inventory)
    except OSError:
        return True


def _is_gone(path: str) -> bool:
    with suppress(OSError):
        if os.path.isdir(path):
            remove_tree(path)
        else:
            os.unlink(path)
    return not os.path.lexists(path)
