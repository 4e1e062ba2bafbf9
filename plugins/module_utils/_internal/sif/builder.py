# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From an image's layers to one finished SIF, or to a directory tree."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import IO

from ..errors import EngineError, PackerError
from ..fs.digest import CHUNK, hash_of
from ..fs.files import make_directory, need_space, replacing, storage_error
from ..fs.tempdir import temporary_directory
from ..layers import extract
from ..layers.content import ArrivingLayers, Content
from ..layers.decompressed_stream import Decompressed
from ..layers.index import index
from ..layers.stream import Archive, CrowdedDirectory, write_foreseen
from ..layers.tar import DIRECTORY, Entry, shown_path
from ..layers.union import Census, Layer, Misjudged, Union
from ..oci.blobs import BlobCache
from ..oci.reference import Reference
from ..registry.image import ResolvedImage
from . import container, metadata
from .mksquashfs import Packer, Partition
from .own_metadata import NOTHING, OwnMetadata, metadata_of
from .toolchain import AUTO, STREAM, VIA_SANDBOX, Toolchain

# mksquashfs looks a name up in a list of its directory's files when it reads a tar archive: a crowded directory takes
# longer from a stream than from a disk.
_CROWD = 20_000
_IDENTIFIERS = uuid.UUID("6f0e2d0c-5a0e-5f7b-9c39-2f4c8e1d7a55")  # the name space of a SIF's identifiers

Clock = Callable[[str], AbstractContextManager[None]]


@dataclass(frozen=True)
class Built:
    """A finished SIF: path, size in bytes, mtime in ns, sha256; which builder made it, and why that one; what
    decompressed its layers; warnings.
    """

    path: str
    size: int
    mtime_ns: int
    sha256: str
    builder: str
    reason: str
    decompressed: tuple[Decompressed, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImageBuild:
    """One image on its way from its layers to a SIF file or a directory tree.

    :ivar layers: are waited for, each until its blob is in the cache, and told how much of it has been read.
    :ivar clock: measures the time of a named step: metadata, index, unpack, pack, assemble.
    :ivar workers: layers that are read at once.
    """

    image: ResolvedImage
    cache: BlobCache
    toolchain: Toolchain
    layers: ArrivingLayers
    clock: Clock
    workers: int

    def write_sif(self, path: str, prepare: Callable[[str], None]) -> Built:
        """Unite the layers, add what the engine adds, pack all of it, and put it into a SIF that replaces a file.

        :param prepare: sets owner and mode of the finished file before it gets its name.
        :raises DamagedBlob: if a cached layer has to be fetched again.
        :raises InvalidSif: if a SIF cannot be of the image's architecture.
        :raises InvalidLayer, EngineError, PackerError, StorageError, NoSpace: as the steps raise them.
        """
        architecture, packer = self.image.config.platform.architecture, self.toolchain.packer
        container.require_architecture(architecture)
        make_directory(self.toolchain.tmpdir)
        make_directory(os.path.dirname(path))
        with temporary_directory(self.toolchain.tmpdir) as work:
            tree = self._tree(work)
            with replacing(path, mode=0o777, prepare=prepare) as stream:
                offset = container.partition_offset(tree.added.latest.objects)
                place = Partition(stream.fileno(), offset, os.path.dirname(path))
                with _filled(stream, place, packer, work) as partition:
                    builder, reason, warnings = _PartitionWriter(tree, self.toolchain, partition, work).write()
                with self.clock("assemble"):
                    fields = container.HeaderFields(architecture, self._identifier(), tree.moment)
                    container.write(stream, fields, tree.added.latest.objects, offset)
                    status, sha256 = _settle(stream)
        warned = (*warnings, *tree.added.warnings)
        spent = tuple(each for content in tree.contents for each in content.work)
        return Built(path, status.st_size, status.st_mtime_ns, sha256, builder, reason, spent, warned)

    def write_tree(self, root: str) -> list[str]:
        """Unite the layers, and write them with what the engine adds into an existing, empty directory.

        :returns: warnings about what an ordinary user could not write.
        :raises DamagedBlob: if a cached layer has to be fetched again.
        :raises InvalidLayer, EngineError, StorageError, NoSpace: as the steps raise them.
        """
        make_directory(self.toolchain.tmpdir)
        with temporary_directory(self.toolchain.tmpdir) as work:
            tree = self._tree(work)
            return [*tree.write(root), *tree.added.warnings]

    def _tree(self, work: str) -> _Tree:
        """Return the tree of the image; the engine writes its part in a temporary directory now."""
        config, toolchain = self.image.config, self.toolchain
        moment = config.moment if toolchain.reproducible else int(time.time())
        template = metadata.Template(toolchain.engine, toolchain.command, config, self.image.reference.uri, moment)
        added = MetadataWriter(template, work, self.clock)
        return _Tree(self.image.reference, added, self._contents(), self.workers, moment, self.clock)

    def _contents(self) -> list[Content]:
        image, digests = self.image, self.image.config.diff_ids
        count = len(image.layers)
        diff_ids: Sequence[str | None] = digests if digests is not None and len(digests) == count else [None] * count
        cache, layers, processors = self.cache, self.layers, self.toolchain.processors
        return [
            Content(layer, diff_id, f"the layer {layer.digest} of {image.reference}", cache, layers, processors)
            for layer, diff_id in zip(image.layers, diff_ids)
        ]

    def _identifier(self) -> uuid.UUID:
        if not self.toolchain.reproducible:
            return uuid.uuid4()
        image, inputs = self.image, sorted(self.toolchain.inputs.items())
        return uuid.uuid5(_IDENTIFIERS, f"{image.manifest_digest} {image.reference.uri} {inputs}")


class MetadataWriter:
    """The engine's metadata for one image: written while its layers still arrive, and again if these bring metadata."""

    def __init__(self, template: metadata.Template, work: str, clock: Clock) -> None:
        """
        :param work: an existing directory, where it is written.
        """
        self._template = template
        self._work = work
        self._clock = clock
        self.warnings: list[str] = []
        self.latest = self._make("engine", NOTHING)

    def renew(self, union: Union) -> None:
        """Let the engine have what the image itself has of metadata, so that it tells of that too.

        :param union: of the layers alone.
        """
        own = metadata_of(union)
        if own == self.latest.own:
            return
        try:
            self.latest = self._make("engine-again", own)
        except EngineError as error:
            self.warnings = [f"inspect does not show the metadata that the image itself brings: {error}"]
        else:
            self.warnings = own.warnings

    def _make(self, name: str, own: OwnMetadata) -> metadata.EngineMetadata:
        with self._clock("metadata"):
            directory = os.path.join(self._work, name)
            try:
                shutil.rmtree(directory, ignore_errors=True)  # of a builder that gave up
                os.mkdir(directory)
                return metadata.make(self._template, directory, own)
            except OSError as error:
                raise storage_error(error, self._work) from error


@dataclass(frozen=True)
class _Tree:
    """The tree of one image: its layers, and what the engine adds to them."""

    reference: Reference
    added: MetadataWriter
    contents: Sequence[Content]
    workers: int
    moment: int
    clock: Clock

    def census(self) -> Census:
        """Begin to count the entries of all layers, for one more reading of them."""
        return Census(str(self.reference))

    def united(self, layers: Sequence[Layer]) -> Union:
        """Return the union of indexed layers and the engine's part."""
        union = Union(layers)
        self.added.renew(union)
        union.add(self.added.latest.cover(union))
        union.root = union.root._replace(mtime=self.moment)  # what the engine puts into it changes it
        return union

    def write(self, root: str) -> list[str]:
        """Write it to disk. Returns warnings."""
        with self.clock("index"), ThreadPoolExecutor(max(1, self.workers)) as pool:
            census = self.census()
            union = self.united(list(pool.map(lambda content: indexed(content, census), self.contents)))
        with self.clock("unpack"):
            need_space(root, union.size, f"unpacking {self.reference}")
            return extract.write_tree(root, union.entries())


@dataclass(frozen=True)
class _PartitionWriter:
    """One image on its way into the partition of a SIF."""

    tree: _Tree
    toolchain: Toolchain
    partition: Partition
    directory: str

    def write(self) -> tuple[str, str, list[str]]:
        """Fill the partition; return the builder that was used, why, and warnings."""
        builder = self.toolchain.builder
        if builder == VIA_SANDBOX:
            return VIA_SANDBOX, "asked for", self._sandbox()
        trouble = []
        try:
            with self.tree.clock("pack"):
                warnings = self._stream(_CROWD if builder == AUTO else None)
            return STREAM, "asked for" if builder == STREAM else "mksquashfs reads tar archives", warnings
        except _Unstreamable as obstacle:
            if builder == STREAM:
                raise PackerError(
                    f"builder: stream cannot build {self.tree.reference}: {obstacle}; ask for builder: auto"
                ) from obstacle
            reason = str(obstacle)
        except PackerError as error:
            if builder == STREAM:
                raise
            reason = f"streaming failed: {error}"
            trouble.append(f"{self.tree.reference} was unpacked to be built, since {reason}")
        return VIA_SANDBOX, reason, [*trouble, *self._sandbox()]

    def _stream(self, limit: int | None) -> list[str]:
        """Write the tree as a tar archive into the packer; nothing is unpacked to disk. Returns warnings.

        :raises _Unstreamable: if the packer cannot take it, or not in good time.
        """
        packer = self.toolchain.packer
        foreseen = Entry(b"", DIRECTORY, 0o755, 0, 0, self.tree.moment)  # the root directory of nearly every image
        self._require(packer.refuses(foreseen, 0, None))
        try:
            with packer.packing(self.partition, self.tree.moment, foreseen) as pipe:
                archive = Archive(pipe)
                hidden, census = self.tree.added.latest.files, self.tree.census()
                layers, written = write_foreseen(self.tree.contents, hidden, archive, limit, census)
                union = self.tree.united(layers)
                newest = max((layer.entries.newest for layer in layers if layer.entries), default=0)
                self._require(
                    packer.refuses(union.root, newest, self.tree.moment if self.toolchain.reproducible else None)
                )
                if union.root != foreseen:
                    raise Misjudged("root directory")
                archive.finish(union.entries(written))
        except CrowdedDirectory as crowd:
            raise _Unstreamable(
                f"{shown_path(crowd.path)} holds more than {crowd.limit} files, which mksquashfs reads faster from disk"
            ) from crowd
        except Misjudged:
            with packer.packing(self.partition, self.tree.moment, union.root) as pipe:
                archive = Archive(pipe)
                archive.finish(union.entries())
        return archive.warnings()

    @staticmethod
    def _require(obstacle: str | None) -> None:
        if obstacle:
            raise _Unstreamable(obstacle)

    def _sandbox(self) -> list[str]:
        """Unpack the tree to disk, and pack that. Returns warnings."""
        root = os.path.join(self.directory, "root")
        os.mkdir(root)
        warnings = self.tree.write(root)
        with self.tree.clock("pack"):
            self.toolchain.packer.pack(root, self.partition, self.tree.moment, as_root=os.geteuid() != 0)
        return warnings


class _Unstreamable(Exception):
    """The packer of this host should not be given an image as a stream."""


def indexed(content: Content, census: Census) -> Layer:
    """Read a layer for what it holds, and verify it.

    :raises SregistryError: as ``Content.verified`` and the census raise it.
    """
    with content.verified() as archive:
        return Layer(content.what, index(archive, content.what, census.take), content.open)


@contextmanager
def _filled(stream: IO[bytes], place: Partition, packer: Packer, work: str) -> Iterator[Partition]:
    """Give the packer a partition to fill, whose content is in its place when the block ends."""
    if packer.offsets:
        yield place
        return
    with open(os.path.join(work, "squashfs"), "w+b") as aside:
        yield Partition(aside.fileno(), 0, work)
        stream.seek(place.offset)
        shutil.copyfileobj(aside, stream, CHUNK)


def _settle(stream: IO[bytes]) -> tuple[os.stat_result, str]:
    """Bring a file to disk, and compute its checksum meanwhile; returns its status and its sha256."""
    stream.flush()
    with ThreadPoolExecutor(1) as pool:
        synced = pool.submit(os.fsync, stream.fileno())
        stream.seek(0)
        hasher = hash_of(stream)
        synced.result()
    return os.fstat(stream.fileno()), hasher.hexdigest()
