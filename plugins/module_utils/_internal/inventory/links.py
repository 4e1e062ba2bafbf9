# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Symlinks by which people use images, such as ``solver.sif`` for the file of the current digest.

The inventory does not know them. Nothing but a look at the directories finds them, so that is only done where a file is
to go.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from ..errors import StorageError
from . import scan
from .paths import DirectoryEntry, entries, entry


@dataclass(frozen=True)
class Places:
    """The places where symlinks are looked for.

    :ivar store: a directory, looked through with all below it that belongs to no other store and to no image.
    :ivar inventory: the directory of the inventory of the store.
    :ivar given: absolute paths: symlinks, or directories that hold symlinks.
    """

    store: str
    inventory: str
    given: tuple[str, ...] = ()


@dataclass(frozen=True)
class Needed:
    """The entries that the symlinks of some places need, each with the path of such a symlink."""

    links: Mapping[DirectoryEntry, str] = field(default_factory=dict)

    def by(self, path: str) -> str | None:
        """Return a symlink that would lead to nothing if a path were gone; None if there is none."""
        return self.links.get(entry(path))


def needed(places: Places, paths: Collection[str], going: Iterable[str] = ()) -> Needed:
    """Find what is needed by symlinks: in the store, in the directories of some paths, and where somebody says.

    :param paths: of the files that are to go; without any, nothing is looked for.
    :param going: the paths of symlinks that do not count, since they go as well.
    """
    if not paths:
        return Needed()
    gone = {entry(path) for path in (*paths, *going)}
    links: dict[DirectoryEntry, str] = {}
    for link in _links(places, paths):
        own = entry(link)
        if own in gone:
            continue
        for need in entries(link) - {own}:
            links.setdefault(need, link)
    return Needed(links)


def need_absolute(paths: Iterable[str]) -> None:
    """Refuse relative paths of symlinks.

    :raises StorageError: naming the first.
    """
    for path in paths:
        if not os.path.isabs(path):
            raise StorageError(f"{path!r} is no absolute path; write links with a leading '/'")


def _links(places: Places, paths: Iterable[str]) -> Iterator[str]:
    looked: set[DirectoryEntry] = set()
    beside = sorted({os.path.dirname(path) for path in paths})
    for directory in (*scan.store_directories(places.store, places.inventory), *places.given, *beside):
        if os.path.islink(directory) and directory in places.given:
            yield directory
        elif entry(os.path.join(directory, "")) not in looked:
            looked.add(entry(os.path.join(directory, "")))
            with suppress(OSError), os.scandir(directory) as found:
                yield from sorted(one.path for one in found if one.is_symlink())
