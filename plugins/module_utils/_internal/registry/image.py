# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One image of one platform, to which a name in a registry resolves, with all the documents that describe it."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import DigestMismatch, InvalidManifest, PlatformNotFound
from ..fs.digest import matches
from ..oci.blobs import BlobCache, Obtained
from ..oci.config import Config, parse_config
from ..oci.descriptor import Descriptor
from ..oci.manifest import IMAGE_TYPES, ImageManifest, Index, absent, choose, parse_manifest
from ..oci.platform import Platform
from ..oci.reference import Reference
from ..oci.schema1 import Schema1
from .blob_source import manifest_of, source_of
from .client import Manifest, Registry

_MAX_DEPTH = 4  # nested indexes
_MAX_CONFIG = 8 * 1024 * 1024  # bytes


@dataclass(frozen=True)
class ResolvedImage:
    """One image of one platform.

    ``digest`` is what the name points at (index or manifest), ``manifest_digest`` that of the platform's manifest.
    ``layers`` go from the oldest to the newest. ``documents`` are the JSON documents as received: index, manifest,
    config; ``contents`` the same byte by byte.
    """

    reference: Reference
    digest: str
    media_type: str
    manifest_digest: str
    config: Config
    layers: tuple[Descriptor, ...]
    documents: dict[str, Any] = field(repr=False)
    obtained: tuple[Obtained, ...] = ()
    contents: Mapping[str, bytes] = field(default_factory=dict, repr=False, compare=False)

    @property
    def size(self) -> int | None:
        """Bytes of all layers as compressed, each digest once; None if the manifest does not tell."""
        sizes = {layer.digest: layer.size for layer in self.layers}
        known = [size for size in sizes.values() if size is not None]
        return sum(known) if len(known) == len(sizes) else None


def resolve_image(
    registry: Registry, cache: BlobCache, reference: Reference, wanted: Platform, digest: str | None = None
) -> ResolvedImage:
    """Follow a name through its indexes to the manifest and config of one platform.

    :param digest: what the name points at, where that is known and not to be asked.
    :raises PlatformNotFound: listing what exists.
    :raises InvalidManifest: if a document is malformed or indexes nest too deep.
    :raises RegistryError, StorageError: as registry and cache raise them.
    """
    top = registry.get(reference.at(digest) if digest else reference)
    return _find_platform(registry, cache, reference, wanted, top)


def manifests(
    registry: Registry, cache: BlobCache, reference: Reference, wanted: Sequence[Platform]
) -> tuple[str, dict[Platform, str]]:
    """Return the digest of what a name points at, and that of the manifest for each platform, with few requests.

    An index is believed that says which image is for which platform; whatever says no platform is fetched to know it.

    :raises PlatformNotFound, InvalidManifest, RegistryError, StorageError: as ``resolve_image``.
    """
    top = registry.get(reference)
    manifest = parse_manifest(top.content, top.media_type, reference)
    found = {}
    for platform in wanted:
        best = choose(manifest, platform, reference) if isinstance(manifest, Index) else None
        if best and best.platform and best.media_type in IMAGE_TYPES:
            found[platform] = best.digest
        else:
            found[platform] = _find_platform(registry, cache, reference, platform, top).manifest_digest
    return top.digest, found


def contents(
    registry: Registry, cache: BlobCache, reference: Reference, digest: str, manifest_digest: str
) -> dict[str, bytes]:
    """Return the documents of an image as its registry has them, byte by byte: index, manifest, config.

    :param digest: what the name points at, the index if it is not the manifest itself.
    :raises InvalidManifest: if a document is malformed.
    :raises RegistryError, StorageError: as registry and cache raise them.
    """
    body = registry.get(reference.at(manifest_digest))
    found = {"manifest": body.content}
    if digest != manifest_digest:
        found["index"] = registry.get(reference.at(digest)).content
    manifest = parse_manifest(body.content, body.media_type, reference)
    if isinstance(manifest, ImageManifest):
        source = source_of(registry, reference.repository, manifest.config)
        found["config"], _blob = cache.read(manifest.config, _MAX_CONFIG, source, f"the config of {reference}")
    return found


def restore(
    reference: Reference, digest: str, manifest_digest: str, texts: Mapping[str, Any], platform: Platform
) -> ResolvedImage:
    """Return an image as it was resolved before, from its documents as somebody tells them. The digests prove them.

    :param texts: the documents, named as in ``ResolvedImage.contents``.
    :param platform: of the image, where its config does not tell.
    :raises DigestMismatch: if a document is missing, or another one.
    :raises InvalidManifest: if they are not those of an image.
    """
    found = {"manifest": _proven(texts.get("manifest"), manifest_digest, reference)}
    if digest != manifest_digest:
        found["index"] = _proven(texts.get("index"), digest, reference)
        parse_manifest(found["index"], "", reference)
    manifest = parse_manifest(found["manifest"], "", reference)
    if isinstance(manifest, Index):
        raise InvalidManifest(f"malformed manifest of {reference}: it is an index")
    if isinstance(manifest, ImageManifest):
        found["config"] = _proven(texts.get("config"), manifest.config.digest, reference)
        config = parse_config(found["config"], reference, platform)
    else:
        config = manifest.config
    documents = {name: json.loads(content) for name, content in found.items()}
    kind = str(documents.get("index", documents["manifest"]).get("mediaType") or "")
    return ResolvedImage(reference, digest, kind, manifest_digest, config, manifest.layers, documents, contents=found)


def _proven(text: Any, digest: str, reference: Reference) -> bytes:
    content = text.encode(errors="replace") if isinstance(text, str) else b""
    if not matches(io.BytesIO(content), digest):
        raise DigestMismatch(f"the document {digest} of {reference} is missing there, or another one")
    return content


def _find_platform(
    registry: Registry, cache: BlobCache, reference: Reference, wanted: Platform, top: Manifest
) -> ResolvedImage:
    """Return the image of a platform, from what its name points at."""
    search = _PlatformSearch(registry, cache, reference, wanted, top)
    image = search.below(top, claimed=None, depth=1)
    if image is None:
        raise absent(wanted, search.offered, reference)
    return image


@dataclass
class _PlatformSearch:
    """The way from what a name points at down to one platform; ``offered`` are the platforms met on it."""

    registry: Registry
    cache: BlobCache
    reference: Reference
    wanted: Platform
    top: Manifest
    index: Any = None
    offered: list[Platform] = field(default_factory=list)
    obtained: list[Obtained] = field(default_factory=list)

    def below(self, body: Manifest, claimed: Platform | None, depth: int) -> ResolvedImage | None:
        """Return the image of the platform in or under a document, None if there is none.

        :param claimed: the platform that the index above says it is for, if it says.
        """
        if depth > _MAX_DEPTH:
            raise InvalidManifest(f"malformed index of {self.reference}: indexes nest deeper than {_MAX_DEPTH}")
        manifest = parse_manifest(body.content, body.media_type, self.reference)
        if not isinstance(manifest, Index):
            return self._image(body, manifest, claimed)
        if body is self.top:
            self.index = json.loads(body.content)
        for member in self._members(manifest):
            body = manifest_of(self.registry, self.reference, member)
            image = self.below(body, member.platform, depth + 1)
            if image:
                return image
        return None

    def _members(self, index: Index) -> list[Descriptor]:
        """Return those that may serve the platform: the best of those that say theirs, else all that say none."""
        self.offered.extend(entry.platform for entry in index.manifests if entry.platform and not entry.attestation)
        try:
            best = choose(index, self.wanted, self.reference)
        except PlatformNotFound:
            return []
        if best.platform:
            return [best]
        return [entry for entry in index.manifests if not entry.platform and not entry.attestation]

    def _image(
        self, body: Manifest, manifest: ImageManifest | Schema1, claimed: Platform | None
    ) -> ResolvedImage | None:
        documents, found = {"manifest": json.loads(body.content)}, {"manifest": body.content}
        if isinstance(manifest, Schema1):
            config = manifest.config
        else:
            source = source_of(self.registry, self.reference.repository, manifest.config)
            content, blob = self.cache.read(manifest.config, _MAX_CONFIG, source, f"the config of {self.reference}")
            self.obtained.append(blob)
            config = parse_config(content, self.reference, claimed)
            documents["config"], found["config"] = json.loads(content), content
            if not config.platform.architecture:
                raise InvalidManifest(
                    f"malformed config of {self.reference}: it names no architecture, which an image must have; "
                    "build it again with a tool that sets it, or push it in an index that says its platform"
                )
        if claimed is None and self.wanted.rank(config.platform) is None:
            self.offered.append(config.platform)
            return None
        if self.index is not None:
            documents["index"], found["index"] = self.index, self.top.content
        return ResolvedImage(
            self.reference,
            self.top.digest,
            self.top.media_type,
            body.digest,
            config,
            manifest.layers,
            documents,
            tuple(self.obtained),
            found,
        )
