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
from .tar import DIRECTORY, FILE, Data, Entry, named, read, shown_path
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
        unfit = [name for name, _value in entry.xattrs if not _fits(name)]
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
) -> tuple[list[Layer], dict[int, set[int]]]:
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
    written: dict[int, set[int]] = {}
    for number in reversed(range(len(contents))):
        content = contents[number]
        entries: list[Entry] = []
        ordinals = written[number] = set()
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
        self._claims: dict[bytes, bool] = {}
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
        parent = path.rpartition(b"/")[0]
        if path in self._claims or not path or b".wh." in path or not self._is_open(parent):
            return False
        count = self._counts[parent] = self._counts.get(parent, 0) + 1
        if self._limit and count > self._limit:
            raise CrowdedDirectory(parent, self._limit)
        return True

    def add(self, entries: Iterable[Entry]) -> None:
        """Take the entries of the present layer into account, and go on to the next older one.

        :raises InvalidLayer: if their paths would fill the memory.
        """
        for entry in entries:
            if is_whiteout(entry.path):
                self._close(hidden_by(entry.path))
            elif entry.kind == DIRECTORY:
                self._claims.setdefault(entry.path, _MERGED)
                self._lead_to(entry.path)
            else:
                self._close(entry.path)
        self._open = {b"": self._claims.get(b"", _MERGED)}

    def _close(self, path: bytes) -> None:
        self._claims[path] = _CLOSED
        self._lead_to(path)

    def _lead_to(self, path: bytes) -> None:
        """Note that all above a path are directories."""
        parent = path.rpartition(b"/")[0]
        while parent and parent not in self._claims:
            self._claims[parent] = _MERGED
            self._implied += len(parent)
            parent = parent.rpartition(b"/")[0]
        if self._implied > _MAX_IMPLIED:
            raise InvalidLayer(f"the paths of this image take more than {_MAX_IMPLIED >> 20} MiB of memory")

    def _is_open(self, directory: bytes) -> bool:
        unknown = []
        while directory not in self._open:
            unknown.append(directory)
            directory = directory.rpartition(b"/")[0]
        shows = self._open[directory]
        for path in reversed(unknown):
            shows = self._open[path] = shows and self._claims.get(path, _MERGED)
        return shows
