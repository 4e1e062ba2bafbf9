# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Layers too large to be held in memory: written, compressed, hashed and uploaded on the way."""

from __future__ import annotations

import hashlib
import json
import random
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, Literal

from tests.lab import oci
from tests.lab.tree import MTIME

MEBIBYTE = 1 << 20
END = bytes(2 * tarfile.BLOCKSIZE)
"""What a tar ends with."""


class Stream:
    """A gzip layer of an uncompressed tar that comes in pieces; it can be read once."""

    def __init__(self, tar: Iterable[bytes], made_by: str = "large layer", level: int = 1) -> None:
        self.made_by = made_by
        self._tar, self._level = tar, level
        self._tar_digest = hashlib.sha256()

    @property
    def diff_id(self) -> str:
        """The tar's digest, right once the layer was read to its end."""
        return f"sha256:{self._tar_digest.hexdigest()}"

    def compressed(self) -> Iterator[bytes]:
        """Yield the blob in pieces."""
        gzip = zlib.compressobj(self._level, wbits=31)
        for piece in self._tar:
            self._tar_digest.update(piece)
            yield gzip.compress(piece)
        yield gzip.flush()


def incompressible(directory: str, files: int, mebibytes: int) -> Iterator[bytes]:
    """Yield the tar of ``files`` files of ``mebibytes`` each; seven eighths of each file cannot be compressed."""
    yield from member(new(f"{directory}/", tarfile.DIRTYPE, 0o755), format=tarfile.GNU_FORMAT)
    for number in range(files):
        name = f"{directory}/part-{number:03}.bin"
        head = new(name, tarfile.REGTYPE, 0o644, mebibytes * MEBIBYTE)
        yield from member(head, _content(name, mebibytes), tarfile.GNU_FORMAT)
    yield END


def new(name: str, kind: bytes, mode: int, size: int = 0) -> tarfile.TarInfo:
    """Return the head of a member that belongs to root."""
    head = tarfile.TarInfo(name)
    head.type, head.mode, head.mtime, head.size = kind, mode, MTIME, size
    return head


def member(
    head: tarfile.TarInfo,
    content: Iterable[bytes] = (),
    format: Literal[1, 2] = tarfile.PAX_FORMAT,  # pylint: disable=redefined-builtin
) -> Iterator[bytes]:
    """Yield a member of a tar in pieces; ``content`` has ``head.size`` bytes."""
    yield head.tobuf(format, "utf-8", "surrogateescape")
    yield from content
    if head.size % tarfile.BLOCKSIZE:
        yield bytes(-head.size % tarfile.BLOCKSIZE)


def push(client: oci.Client, name: str, base: oci.Image, streams: list[Stream]) -> str:
    """Push an OCI image of ``base`` and these layers."""
    repository = oci.reference(name).repository
    uploaded = [(stream, *client.put_stream(repository, stream.compressed())) for stream in streams]
    config: dict[str, Any] = _document(base.config())
    config["rootfs"]["diff_ids"] += [stream.diff_id for stream in streams]
    config["history"] += [{"created": oci.CREATED, "created_by": stream.made_by} for stream in streams]
    manifest: dict[str, Any] = _document(base.manifest())
    for _stream, digest, size in uploaded:
        manifest["layers"].append({"mediaType": f"{oci.OCI_LAYER}+gzip", "size": size, "digest": digest})
    body = oci.to_json(config)
    manifest["config"] |= {"size": len(body), "digest": oci.digest_of(body)}
    for blob in [*(layer.blob for layer in base.layers), body]:
        client.put_blob(repository, blob)
    return client.put_manifest(oci.reference(name), oci.to_json(manifest), base.media_type)


def _document(text: bytes) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(text)
    return document


def _content(seed: str, mebibytes: int) -> Iterator[bytes]:
    """Yield the same bytes for the same ``seed``."""
    source = random.Random(seed)
    for _number in range(mebibytes):
        yield source.randbytes(MEBIBYTE - MEBIBYTE // 8) + bytes(MEBIBYTE // 8)
