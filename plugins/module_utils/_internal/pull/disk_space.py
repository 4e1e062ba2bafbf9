# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The room that the images of one run need together, looked for before anything is fetched.

What has to be fetched is known to the byte. A file that is built is taken for as large as its compressed layers are
together, since both hold the same files, compressed in much the same way. What a builder unpacks to a temporary
directory is not known before; there is looked for room when it is.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..errors import NoSpace
from ..fs.files import free_space, nearest
from ..oci.blobs import BlobCache
from ..oci.descriptor import Descriptor
from ..oci.reference import Reference
from ..registry.image import ResolvedImage
from ..text import in_words
from . import sif_download
from .plan import Plan, is_kept
from .resolve import Resolved
from .session import Session

_UNCOMPRESSED = ".tar"  # how the media type of a layer ends that is not compressed
_SHRINKS = 3  # times, when such a layer is; a low estimate of the file, which refuses nothing that fits


@dataclass
class _Disk:
    """The demands on one file system, in bytes: ``held`` after each step, ``most`` at any time, by each image."""

    cache: list[str] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    images: dict[Reference, int] = field(default_factory=dict)
    held: int = 0
    most: int = 0

    def take(self, directories: list[str], directory: str, size: int, image: Reference) -> None:
        """Take room for something that is written to a directory; it joins those written to for this reason."""
        if size:
            directories.append(directory)
            self.images[image] = self.images.get(image, 0) + size
        self.held += size
        self.most = max(self.most, self.held)

    def give_back(self, size: int) -> None:
        """Give back the room of a file that is replaced."""
        self.held -= size


def need_disk_space(session: Session, plans: Sequence[Plan]) -> None:
    """Refuse work that does not fit.

    :param plans: in the order in which their files are made, one after the other, while all is fetched at once.
    :raises NoSpace: naming the directories, what is needed and what is there.
    :raises StorageError: if a file system cannot be looked at.
    """
    disks: dict[int, _Disk] = {}
    cache = session.stock
    made = [plan for plan in plans if plan.make and not is_kept(session, plan.lost)]
    seen: set[str] = set()
    for plan in made:
        for name, size in _missing(cache, _coming(plan)):
            if name not in seen:
                seen.add(name)
                disk = _disk(disks, cache.directory)
                disk.take(disk.cache, cache.directory, size, plan.image.reference)
    for plan in made:
        directory = os.path.dirname(plan.path)
        disk = _disk(disks, directory)
        disk.take(disk.places, directory, _size_of_file(cache, plan), plan.image.reference)
        disk.give_back(_freed(plan))
    lacking = [lack for lack in map(_lack, disks.values()) if lack]
    if lacking:
        raise NoSpace(
            f"no space left {'; and '.join(lacking)}. Nothing was fetched; free some, choose other directories, or "
            "pull fewer images"
        )


def _disk(disks: dict[int, _Disk], directory: str) -> _Disk:
    return disks.setdefault(os.stat(nearest(directory)).st_dev, _Disk())


def _coming(plan: Plan) -> Resolved:
    """Return what is fetched: the image itself, or the file that somebody else has built of it."""
    return plan.entry.artifact if plan.entry else plan.image


def _missing(cache: BlobCache, image: Resolved) -> list[tuple[str, int]]:
    """Return what has to be fetched, each with a name of its own and its bytes that are not there."""
    if isinstance(image, ResolvedImage):
        return [(layer.digest, cache.missing(layer)) for layer in image.layers]
    return [sif_download.missing(cache, image)]


def _size_of_file(cache: BlobCache, plan: Plan) -> int:
    """Return the bytes of the file of an image in its place; a finished one may be another name of the cached one."""
    image = _coming(plan)
    if isinstance(image, ResolvedImage):
        layers = {layer.digest: layer for layer in image.layers}
        return sum(map(_packed, layers.values()))
    together = os.stat(nearest(cache.directory)).st_dev == os.stat(nearest(os.path.dirname(plan.path))).st_dev
    name, missing = sif_download.missing(cache, image)
    return 0 if together and (missing or cache.keeps(name)) else image.size or 0


def _packed(layer: Descriptor) -> int:
    size = layer.size or 0
    return size // _SHRINKS if layer.media_type.endswith(_UNCOMPRESSED) else size


def _freed(plan: Plan) -> int:
    """Return the bytes that are free again when a new file has its name: the cache lets go of the one before."""
    try:
        status = os.lstat(plan.path)
    except OSError:
        return 0
    names = 2 if plan.after.file(plan.path) else 1
    return status.st_size if stat.S_ISREG(status.st_mode) and status.st_nlink <= names else 0


def _lack(disk: _Disk) -> str | None:
    """Return what a file system lacks; None if it has enough."""
    directories = [os.path.commonpath(written) for written in (disk.cache, disk.places) if written]
    if not directories:
        return None
    free = free_space(directories[0])
    if disk.most <= free:
        return None
    largest = max(disk.images, key=lambda image: disk.images[image])
    count = len(disk.images)
    of_many = f"; of {count} images the largest is {largest} with {in_words(disk.images[largest])}" if count > 1 else ""
    return f"in {' and '.join(directories)}: needs {in_words(disk.most)}, has {in_words(free)}{of_many}"
