# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a name in a registry resolves to: one image of one platform, with all the documents that describe it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from .blobs import BlobCache, Obtained, Source
from .errors import InvalidManifest
from .manifest import Config, Descriptor, Image, Index, Schema1, absent, choose, parse_config, parse_manifest
from .platform import Platform
from .reference import Reference
from .registry import Body, Registry

_MAX_DEPTH = 4  # nested indexes
_MAX_CONFIG = 8 * 1024 * 1024  # bytes


@dataclass(frozen=True)
class ResolvedImage:
    """One image of one platform.

    ``digest`` is what the name points at (index or manifest), ``manifest_digest`` that of the platform's manifest. ``layers``
    go from the oldest to the newest. ``documents`` are the JSON documents as received: index, manifest, config.
    """

    reference: Reference
    digest: str
    media_type: str
    manifest_digest: str
    config: Config
    layers: tuple[Descriptor, ...]
    documents: dict[str, Any] = field(repr=False)
    obtained: tuple[Obtained, ...] = ()

    @property
    def size(self) -> int | None:
        """Bytes of all layers as compressed, each digest once; None if the manifest does not tell."""
        sizes = {layer.digest: layer.size for layer in self.layers}
        known = [size for size in sizes.values() if size is not None]
        return sum(known) if len(known) == len(sizes) else None


def resolve(registry: Registry, cache: BlobCache, reference: Reference, wanted: Platform) -> ResolvedImage:
    """Follow a name through its indexes to the manifest and config of one platform.

    :raises PlatformNotFound: listing what exists.
    :raises InvalidManifest: if a document is malformed or indexes nest too deep.
    :raises RegistryError, StorageError: as registry and cache raise them.
    """
    top = body = registry.fetch(reference)
    documents: dict[str, Any] = {}
    for _depth in range(_MAX_DEPTH):
        manifest = parse_manifest(body.content, body.media_type, reference)
        if not isinstance(manifest, Index):
            documents["manifest"] = json.loads(body.content)
            return _image(registry, cache, reference, wanted, top, body, manifest, documents)
        documents.setdefault("index", json.loads(body.content))
        body = registry.fetch(reference.at(choose(manifest, wanted, reference).digest))
    raise InvalidManifest(f"malformed index of {reference}: indexes nest deeper than {_MAX_DEPTH}")


def blob_source(registry: Registry, repository: str, digest: str) -> Source:
    """What ``BlobCache.obtain`` needs to fetch one blob of one repository."""

    def source(offset: int) -> AbstractContextManager[tuple[int, Iterator[bytes]]]:
        return registry.blob(repository, digest, offset)

    return source


def _image(
    registry: Registry,
    cache: BlobCache,
    reference: Reference,
    wanted: Platform,
    top: Body,
    body: Body,
    manifest: Image | Schema1,
    documents: dict[str, Any],
) -> ResolvedImage:
    obtained: tuple[Obtained, ...] = ()
    if isinstance(manifest, Schema1):
        config = manifest.config
    else:
        source = blob_source(registry, reference.repository, manifest.config.digest)
        content, blob = cache.read(manifest.config, _MAX_CONFIG, source, f"the config of {reference}")
        config, obtained = parse_config(content, reference), (blob,)
        documents["config"] = json.loads(content)
    if "index" not in documents and config.platform.architecture and wanted.rank(config.platform) is None:
        raise absent(wanted, [config.platform], reference)
    return ResolvedImage(
        reference, top.digest, top.media_type, body.digest, config, manifest.layers, documents, obtained
    )
