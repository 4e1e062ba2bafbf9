# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The metadata that an image itself brings, as engines keep it in a file system: help, tests, labels, applications.

It lies below ``/.singularity.d``, and for each application below ``/scif/apps/NAME/scif`` (Scientific Filesystem). Only
directories and regular files are taken, where a symlink leads to a file of the image that file: the engine follows
links on the host, so a link of an image to a file of the host would put that file into the metadata.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ..layers.tar import DIRECTORY, FILE, SYMLINK, Entry, named, shown_path
from ..layers.union import Inode, Node, Union

PRIVATE = b".singularity.d"
_APPS = b"scif/apps"
_OF_APP = b"scif"
_MAX_ENTRIES = 10_000
_MAX_FILE = 1024 * 1024  # bytes; these are texts
_MAX_BYTES = 8 * 1024 * 1024
_MAX_DEPTH = 16  # directories


@dataclass(frozen=True)
class OwnMetadata:
    """Directories and files of an image that hold metadata.

    :ivar entries: by path, parents first, each a directory or a regular file.
    :ivar contents: of the files, by path.
    :ivar left_out: the paths that lie beyond the bounds.
    """

    entries: Mapping[bytes, Entry] = field(default_factory=dict)
    contents: Mapping[bytes, bytes] = field(default_factory=dict)
    left_out: tuple[bytes, ...] = ()

    @property
    def warnings(self) -> list[str]:
        """About what is in the image, but is too much to be told by its metadata."""
        paths = [shown_path(path) for path in self.left_out]
        return [f"{named(paths)} of the image is too large for metadata: inspect does not show it"] if paths else []


NOTHING = OwnMetadata()


def metadata_of(union: Union) -> OwnMetadata:
    """Read the metadata that an image brings.

    :raises InvalidLayer, SregistryError: as reading its layers again raises it.
    """
    entries: dict[bytes, Entry] = {}
    inodes: dict[bytes, Inode] = {}
    left_out: list[bytes] = []
    size = 0
    for path, node in _found(union):
        entry = node.entry._replace(path=path)
        size += entry.size
        if len(entries) >= _MAX_ENTRIES or entry.size > _MAX_FILE or size > _MAX_BYTES:
            size -= entry.size
            if len(left_out) <= _MAX_ENTRIES:
                left_out.append(path)
            continue
        entries[path] = entry
        if entry.kind == FILE:
            inodes[path] = node.inode
    read: dict[Inode, bytes] = dict(union.read(inodes.values()))
    return OwnMetadata(entries, {path: read[inode] for path, inode in inodes.items()}, tuple(left_out))


def _found(union: Union) -> Iterator[tuple[bytes, Node]]:
    private = union.find(PRIVATE)
    if private and private.entry.kind == DIRECTORY:  # the engine makes a directory of anything else
        yield PRIVATE, private
        yield from _below(union, PRIVATE, private)
    apps = union.resolve(_APPS)
    names = [name for name, _node in union.below(apps)] if apps else []
    if not names:
        return
    for path in (_OF_APP, _APPS):
        node = union.resolve(path)
        if node:
            yield path, node
    for name in names:
        path = _APPS + b"/" + name
        application = union.resolve(path)
        if not application or application.entry.kind != DIRECTORY:
            continue
        yield path, application
        path += b"/" + _OF_APP
        described = union.resolve(path)
        if described and described.entry.kind == DIRECTORY:
            yield path, described
            yield from _below(union, path, described)


def _below(union: Union, path: bytes, directory: Node, depth: int = 0) -> Iterator[tuple[bytes, Node]]:
    for name, node in union.below(directory):
        below = path + b"/" + name
        child: Node | None = node
        if node.entry.kind == DIRECTORY:
            if depth < _MAX_DEPTH:
                yield below, node
                yield from _below(union, below, node, depth + 1)
            continue
        if node.entry.kind == SYMLINK:
            child = union.resolve(below)
        if child and child.entry.kind == FILE:
            yield below, child


def without_owner(entry: Entry) -> Entry:
    """Return an entry as any user can write and read it, which is how the engine gets it."""
    mode = entry.mode & 0o777 | (0o700 if entry.kind == DIRECTORY else 0o600)
    return entry._replace(mode=mode, uid=0, gid=0, xattrs=())
