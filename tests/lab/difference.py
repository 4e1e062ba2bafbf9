# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Differences between two tars: the layer that a build step would have made (OCI image specification, layer.md)."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tests.lab import large


@dataclass(frozen=True)
class Entry:
    """The properties of a tar's member that make it the same as another one."""

    kind: bytes
    mode: int
    owner: tuple[int, int]
    mtime: float
    link: str
    content: bytes


def difference(old: Path, new: Path) -> Iterator[bytes]:
    """Yield the tar, in pieces, that makes ``old`` into ``new`` when it is laid over it.

    As container builders do it, a changed entry comes with its parent directories, and a hard link with its file.
    """
    before, after = _entries(old), _entries(new)
    gone = [name for name in before if name not in after and _is_directory(after.get(_parent(name)))]
    changed = {name for name, entry in after.items() if before.get(name) != entry}
    changed |= {after[name].link for name in changed if after[name].kind == tarfile.LNKTYPE}
    changed |= {str(parent) for name in [*changed, *gone] for parent in PurePosixPath(name).parents}
    with tarfile.open(new) as tar:
        for head in tar:
            if _name(head.name) in changed:
                yield from large.member(head, _content(tar, head))
    for name in sorted(gone):
        path = PurePosixPath(name)
        yield from large.member(large.new(f"./{path.with_name(f'.wh.{path.name}')}", tarfile.REGTYPE, 0o644))
    yield large.END


def whole(tar: Path) -> Iterator[bytes]:
    """Yield all of a tar in pieces."""
    with tar.open("rb") as stream:
        while piece := stream.read(large.MEBIBYTE):
            yield piece


def _entries(path: Path) -> dict[str, Entry]:
    entries = {}
    with tarfile.open(path) as tar:
        for head in tar:
            digest = hashlib.sha256()
            for piece in _content(tar, head):
                digest.update(piece)
            link = _name(head.linkname) if head.islnk() else head.linkname
            owner = (head.uid, head.gid)
            entries[_name(head.name)] = Entry(head.type, head.mode, owner, head.mtime, link, digest.digest())
    return entries


def _content(tar: tarfile.TarFile, head: tarfile.TarInfo) -> Iterator[bytes]:
    if not head.isreg():
        return
    stream = tar.extractfile(head)
    assert stream is not None  # it is a regular file
    while piece := stream.read(large.MEBIBYTE):
        yield piece


def _is_directory(entry: Entry | None) -> bool:
    return entry is not None and entry.kind == tarfile.DIRTYPE


def _name(name: str) -> str:
    """Write ``./usr/bin`` and ``usr/bin/`` as ``usr/bin``; the root directory is ``.``."""
    return str(PurePosixPath(name))


def _parent(name: str) -> str:
    return str(PurePosixPath(name).parent)
