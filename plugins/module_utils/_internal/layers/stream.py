# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A stack of layers, written as one tar archive while it is read, the newest layer first.

What of a layer survives is decided by newer ones, and these were read before: so the data of files goes on at once,
each layer is decompressed once, and nothing waits for the oldest. All else (directories, links, device nodes) follows
in the end, from the union of all layers. One thing can only be foreseen: that no path leads through a symlink of an
older layer, and that no layer brings the same name twice. The union tells whether that was right.

The order of what the union gives is in ``Union.entries`` (``union.py``). Layers are fetched in the order in which they
are read here (``pull/layer_download.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import IO

from ..errors import InvalidLayer
from .content import Content
from .index import LayerIndex, Ordinals
from .tar import DIRECTORY, FILE, Data, Entry, joined, named, read, shown_path
from .tar_writer import TarWriter
from .union import Census, Layer, hidden_by, is_whiteout

_MERGED, _CLOSED = True, False
_MAX_IMPLIED = 256 * 1024 * 1024  # bytes
_XATTRS = ("user.", "trusted.", "security.")  # all that the format of squashfs has room for


class Archive:
    """The tar archive of a tree, for a packer: the root directory left out, which no packer takes from an archive."""

    def __init__(self, target: IO[bytes]) -> None:
        """
        :param target: unbuffered.
        """
        self._writer = TarWriter(target)
        self._unfit: list[str] = []

    def add(self, entry: Entry, data: Data | None) -> None:
        """Write one entry.

        :raises OSError: as the target raises it.
        """
        unfit = [name for name, _value in entry.xattrs if not _fits(name)] if entry.xattrs else ()
        if unfit:
            self._unfit += [f"{shown_path(entry.path)} ({name})" for name in unfit]
            entry = entry._replace(xattrs=tuple(item for item in entry.xattrs if _fits(item[0])))
        if entry.path:
            self._writer.add(entry, data)

    def finish(self, entries: Iterable[tuple[Entry, Data | None]]) -> None:
        """Write the last entries, and the end.

        :raises OSError: as the target raises it.
        """
        for entry, data in entries:
            self.add(entry, data)
        self._writer.finish()

    def warnings(self) -> list[str]:
        """Return a warning about attributes that a squashfs cannot hold, with the first few paths that lack one."""
        return [f"{named(self._unfit)} lacks an attribute that a squashfs cannot hold"] if self._unfit else []


def _fits(attribute: str) -> bool:
    """Tell whether a squashfs has room for an attribute of this name."""
    return attribute.startswith(_XATTRS) and attribute not in _XATTRS


class CrowdedDirectory(Exception):
    """A directory holds more files than the packer can take from a stream in good time."""

    def __init__(self, path: bytes, limit: int) -> None:
        super().__init__(path, limit)
        self.path = path
        self.limit = limit


def write_foreseen(
    contents: Sequence[Content], hidden: Iterable[bytes], archive: Archive, limit: int | None, census: Census
) -> tuple[list[Layer], dict[int, Ordinals]]:
    """Read all layers, and write the files that will survive.

    :param contents: from the oldest layer to the newest.
    :param hidden: paths that something on top of all layers replaces.
    :param limit: how many files one directory may have.
    :param census: counts all entries.
    :returns: the layers, from the oldest to the newest, and the ordinals, by layer, of the entries that were written.
    :raises CrowdedDirectory: if one has more.
    :raises SregistryError: as the contents raise it.
    :raises OSError: as the archive raises it.
    """
    foresight = _Foresight(hidden, limit)
    layers: list[Layer] = []
    written: dict[int, Ordinals] = {}
    for number in reversed(range(len(contents))):
        content = contents[number]
        entries = LayerIndex()
        ordinals = written[number] = Ordinals()
        with content.verified() as blob:
            for entry, data in read(blob, content.what):
                if entry.kind == FILE and foresight.shows(entry.path):
                    archive.add(entry, data)
                    ordinals.add(len(entries))
                census.take(entry)
                entries.append(entry)
        layers.insert(0, Layer(content.what, entries, content.open))
        if number:
            foresight.add(entries)
    return layers, written


class _Foresight:
    """The paths that newer layers leave visible of an older one, every path taken literally."""

    def __init__(self, hidden: Iterable[bytes], limit: int | None) -> None:
        # What is known of a path: a directory that shows what older layers have in it, or something that shows nothing.
        # By directory, then by name.
        self._claims: dict[bytes, dict[bytes, bool]] = {}
        self._root = _MERGED
        self._open: dict[bytes, bool] = {b"": True}  # of directories of the present layer: whether they show
        self._implied = 0  # bytes of paths that no entry has
        self._limit = limit
        self._counts: dict[bytes, int] = {}
        for path in hidden:
            self._close(path)

    def shows(self, path: bytes) -> bool:
        """Tell whether a file of the present layer will be visible.

        :raises CrowdedDirectory: if too many in its directory are.
        """
        parent, _slash, name = path.rpartition(b"/")
        claims = self._claims.get(parent)
        if (claims and name in claims) or not path or b".wh." in path or not self._is_open(parent):
            return False
        count = self._counts[parent] = self._counts.get(parent, 0) + 1
        if self._limit and count > self._limit:
            raise CrowdedDirectory(parent, self._limit)
        return True

    def add(self, entries: LayerIndex) -> None:
        """Take the entries of the present layer into account, and go on to the next older one.

        :raises InvalidLayer: if their paths would fill the memory.
        """
        known: dict[int, dict[bytes, bool]] = {}  # claims, by number of their directory
        for place, name, kind in zip(entries.places, entries.names, entries.kinds()):
            if is_whiteout(name):
                self._close(hidden_by(joined(entries.parents[place], name)))
                continue
            claims = known.get(place)
            if claims is None:
                claims = known[place] = self._lead_to(entries.parents[place])
            if kind != DIRECTORY:
                claims[name] = _CLOSED
            elif name:
                claims.setdefault(name, _MERGED)
        self._open = {b"": self._root}

    def _close(self, path: bytes) -> None:
        parent, _slash, name = path.rpartition(b"/")
        if name:
            self._lead_to(parent)[name] = _CLOSED
        else:
            self._root = _CLOSED

    def _lead_to(self, path: bytes) -> dict[bytes, bool]:
        """Note that a path and all above it are directories, and return what is known of the names in it."""
        claims = self._claims.setdefault(path, {})
        while path:
            parent, _slash, name = path.rpartition(b"/")
            siblings = self._claims.setdefault(parent, {})
            if name in siblings:
                break
            siblings[name] = _MERGED
            self._implied += len(path)
            path = parent
        if self._implied > _MAX_IMPLIED:
            raise InvalidLayer(f"the paths of this image take more than {_MAX_IMPLIED >> 20} MiB of memory")
        return claims

    def _is_open(self, directory: bytes) -> bool:
        unknown = []
        while directory not in self._open:
            unknown.append(directory)
            directory = directory.rpartition(b"/")[0]
        shows = self._open[directory]
        for path in reversed(unknown):
            parent, _slash, name = path.rpartition(b"/")
            shows = self._open[path] = shows and self._claims.get(parent, {}).get(name, _MERGED)
        return shows
