# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Manifests and indexes, read; choosing the manifest of a platform.

Sources: OCI image specification 1.1 (image-index.md, manifest.md, descriptor.md); Docker's "Image Manifest Version 2,
Schema 2", whose list and manifest have the same shape.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..errors import InvalidManifest, PlatformNotFound
from ..late import importing
from ..text import printable, shown
from .config import parse_platform
from .descriptor import Descriptor
from .json_document import need_digest, need_list, parse_object
from .platform import Platform
from .schema1 import Schema1, parse_schema1, signed_payload

INDEX_TYPES = frozenset(
    {
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    }
)
IMAGE_TYPES = frozenset(
    {
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    }
)
# The last four are those of images that old Docker versions pushed (moby/moby, distribution/registry.go).
CONFIG_TYPES = frozenset(
    {
        "application/vnd.oci.image.config.v1+json",
        "application/vnd.docker.container.image.v1+json",
        "application/octet-stream",
        "application/json",
        "text/html",
        "",
    }
)

# Of a finished SIF file in a registry; the second spelling is that of its first version (apptainer,
# internal/pkg/client/oras/config.go).
SIF_TYPE = "application/vnd.sylabs.sif.layer.v1.sif"
SIF_TYPES = frozenset({SIF_TYPE, "appliciation/vnd.sylabs.sif.layer.tar"})

_MAX_SIZE = 2**63 - 1  # bytes; descriptor.md calls the size an int64


@dataclass(frozen=True)
class Index:
    """Manifests of one image for several platforms. ``artifact_type`` as in ``ImageManifest``."""

    manifests: tuple[Descriptor, ...]
    artifact_type: str = ""


@dataclass(frozen=True)
class ImageManifest:
    """The manifest of one platform; ``layers`` from the oldest to the newest.

    ``artifact_type`` is what it says to be, if it is not an image and says so.
    """

    config: Descriptor
    layers: tuple[Descriptor, ...]
    artifact_type: str = ""

    @property
    def is_of_image(self) -> bool:
        """True if its config is one of a container image, as far as its type tells."""
        return self.config.media_type in CONFIG_TYPES

    @property
    def kind(self) -> tuple[str, str] | None:
        """The name of what it is instead of a container image, and the way out; None if it may be one."""
        with importing:
            from .artifact_type import describe, describe_any
        types = [layer.media_type for layer in self.layers]
        if self.is_of_image:
            return describe((self.artifact_type, *types))
        return describe_any(self.artifact_type, self.config.media_type, types)


def parse_manifest(content: bytes, media_type: str, what: object) -> Index | ImageManifest | Schema1:
    """Read the manifest of a container image, or an index, of any kind.

    :param media_type: of the answer; the document's own ``mediaType`` and shape decide where it is a generic one.
    :param what: names the image in errors.
    :raises InvalidManifest: if it follows none of the specifications, or is not a container image.
    """
    manifest = parse_any(content, media_type, what)
    if isinstance(manifest, ImageManifest):
        if any(layer.media_type in SIF_TYPES for layer in manifest.layers):
            raise InvalidManifest(
                f"{what} is not a container image but a finished SIF file; pull it as it is, with oras:// before "
                "its name"
            )
        if manifest.kind:
            raise InvalidManifest(f"{what} is not a container image but {manifest.kind[0]}; {manifest.kind[1]}")
    elif isinstance(manifest, Index):
        with importing:
            from .artifact_type import describe
        kind = describe((manifest.artifact_type, *(entry.media_type for entry in manifest.manifests)))
        if kind:
            raise InvalidManifest(f"{what} is not a container image but {kind[0]}; {kind[1]}")
    return manifest


def parse_any(content: bytes, media_type: str, what: object) -> Index | ImageManifest | Schema1:
    """Read a manifest, whatever it is of; its ``config`` and ``layers`` may be of any media type.

    :raises InvalidManifest: if it follows none of the specifications.
    """
    document = parse_object(content, what, "manifest")
    declared = document.get("mediaType")
    kind = declared if isinstance(declared, str) and declared else media_type
    if document.get("schemaVersion") == 1:
        return parse_schema1(document, what)
    given = document.get("artifactType")
    artifact_type = shown(given) if isinstance(given, str) else ""
    if kind in INDEX_TYPES or (kind not in IMAGE_TYPES and "manifests" in document):
        entries = tuple(_descriptor(entry, what, "manifests") for entry in need_list(document, "manifests", what))
        return Index(entries, artifact_type)
    if kind in IMAGE_TYPES or "layers" in document:
        config = _descriptor(document.get("config"), what, "config")
        layers = tuple(_descriptor(entry, what, "layers") for entry in need_list(document, "layers", what))
        return ImageManifest(config, layers, artifact_type)
    raise InvalidManifest(
        f"malformed manifest of {what}: it is neither an index nor an image (media type {shown(kind)!r})"
    )


def manifest_digest(content: bytes, like: str | None = None) -> str:
    """Return the digest of a manifest: of its bytes, or, for a signed one of schema 1, of the payload that was signed.

    :param like: a digest whose algorithm to use; sha256 otherwise.
    """
    algorithm = (like or "sha256").partition(":")[0]
    if algorithm not in ("sha256", "sha512"):
        algorithm = "sha256"
    return f"{algorithm}:{hashlib.new(algorithm, signed_payload(content)).hexdigest()}"


def choose(index: Index, wanted: Platform, what: object) -> Descriptor:
    """Return the manifest of an index that serves a platform best; of equals the first, as the specification asks.

    Entries that say no platform are nested indexes or single images and come last.

    :raises PlatformNotFound: listing the platforms that exist.
    """
    candidates = [entry for entry in index.manifests if not entry.attestation]
    ranked = [(wanted.rank(entry.platform), entry) for entry in candidates if entry.platform]
    fitting = [(rank, entry) for rank, entry in ranked if rank is not None]
    if fitting:
        return min(fitting, key=lambda pair: pair[0])[1]
    silent = [entry for entry in candidates if not entry.platform]
    if silent:
        return silent[0]
    raise absent(wanted, (entry.platform for entry in candidates if entry.platform), what)


def absent(wanted: Platform, offered: Iterable[Platform], what: object) -> PlatformNotFound:
    """Return the error that says which platforms an image has instead of the wanted one."""
    names = ", ".join(dict.fromkeys(str(platform) for platform in offered))
    if not names:
        return PlatformNotFound(
            f"no image in {what}: its index has nothing, or only attestations of images; take another tag, or have "
            "the image pushed again"
        )
    return PlatformNotFound(f"no {wanted} in {what} (it has {names}); choose one of these with platform")


def _descriptor(entry: Any, what: object, where: str) -> Descriptor:
    if not isinstance(entry, dict):
        raise InvalidManifest(f"malformed manifest of {what}: an entry of '{where}' is not an object")
    size = entry.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise InvalidManifest(f"malformed manifest of {what}: an entry of '{where}' has no size")
    if size > _MAX_SIZE:
        raise InvalidManifest(f"malformed manifest of {what}: an entry of '{where}' claims a size above {_MAX_SIZE}")
    platform = entry.get("platform")
    annotations = entry.get("annotations")
    known = parse_platform(platform) if isinstance(platform, dict) else None
    attestation = known == Platform("unknown", "unknown") or (
        isinstance(annotations, dict) and "vnd.docker.reference.type" in annotations
    )
    media_type = entry.get("mediaType")
    digest = need_digest(entry.get("digest"), what)
    urls = entry.get("urls")
    return Descriptor(
        digest,
        size,
        printable(media_type) if isinstance(media_type, str) else "",
        known if known and known.os and known.architecture else None,
        attestation,
        tuple(url for url in urls if isinstance(url, str)) if isinstance(urls, list) else (),
        _data(entry.get("data"), digest, size),
    )


def _data(text: Any, digest: str, size: int) -> bytes | None:
    """Return the content in a descriptor; None if there is none, or another one, so that it has to be fetched."""
    if not isinstance(text, str):
        return None
    try:
        content = base64.b64decode(text.encode(), validate=True)
    except ValueError:
        return None
    algorithm, _colon, encoded = digest.partition(":")
    return content if len(content) == size and hashlib.new(algorithm, content).hexdigest() == encoded else None
