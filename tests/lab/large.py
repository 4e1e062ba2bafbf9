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
from collections.abc import Iterator
from typing import Any

from tests.lab import oci
from tests.lab.tree import MTIME

MEBIBYTE = 1 << 20


class Stream:
    """A gzip layer of ``files`` files of ``mebibytes`` each; seven eighths of each file cannot be compressed."""

    def __init__(self, directory: str, files: int, mebibytes: int) -> None:
        self._directory, self._files, self._mebibytes = directory, files, mebibytes
        self._tar_digest = hashlib.sha256()

    @property
    def diff_id(self) -> str:
        """The tar's digest, right once the layer was read to its end."""
        return f"sha256:{self._tar_digest.hexdigest()}"

    def compressed(self) -> Iterator[bytes]:
        """The blob in pieces."""
        gzip = zlib.compressobj(1, wbits=31)
        for piece in self._tar():
            self._tar_digest.update(piece)
            yield gzip.compress(piece)
        yield gzip.flush()

    def _tar(self) -> Iterator[bytes]:
        yield _header(f"{self._directory}/", tarfile.DIRTYPE, 0o755, 0)
        for number in range(self._files):
            name = f"{self._directory}/part-{number:03}.bin"
            yield _header(name, tarfile.REGTYPE, 0o644, self._mebibytes * MEBIBYTE)
            yield from _content(name, self._mebibytes)
        yield bytes(2 * tarfile.BLOCKSIZE)


def push(client: oci.Client, name: str, base: oci.Image, streams: list[Stream]) -> str:
    """Push an OCI image of ``base`` and these layers."""
    repository = oci.reference(name).repository
    uploaded = [(stream, *client.put_stream(repository, stream.compressed())) for stream in streams]
    config: dict[str, Any] = _document(base.config())
    config["rootfs"]["diff_ids"] += [stream.diff_id for stream in streams]
    config["history"] += [{"created": oci.CREATED, "created_by": "large layer"} for dummy in streams]
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


def _header(name: str, kind: bytes, mode: int, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.type, member.mode, member.mtime, member.size = kind, mode, MTIME, size
    return member.tobuf(tarfile.GNU_FORMAT)


def _content(seed: str, mebibytes: int) -> Iterator[bytes]:
    """The same bytes for the same ``seed``."""
    source = random.Random(seed)
    for _number in range(mebibytes):
        yield source.randbytes(MEBIBYTE - MEBIBYTE // 8) + bytes(MEBIBYTE // 8)
