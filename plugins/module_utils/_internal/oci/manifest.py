# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Typed views of the documents that describe an image: indexes, manifests and configs.

Sources: OCI image specification 1.1 (image-index.md, manifest.md, config.md, descriptor.md); Docker's "Image Manifest
Version 2, Schema 2" (whose list and manifest have the same shape) and "Schema 1".
"""

from __future__ import annotations

import base64
import calendar
import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ..errors import InvalidManifest, InvalidReference, PlatformNotFound
from ..late import importing
from ..text import printable, shown
from .platform import Platform
from .reference import check_digest

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
# A gzip'ed empty tar archive, which schema 1 repeats for every history entry that changed no file.
SCHEMA1_EMPTY_LAYER = "sha256:a3ed95caeb02ffe68cdd9fd84406680ae93d633cb16422d00e8a7c22955b46d4"

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
_MAX_NESTING = 100  # levels of lists and objects
_MAX_PLATFORM_PART = 64  # characters


@dataclass(frozen=True)
class Descriptor:
    """A pointer to content; ``size`` in bytes is None only where schema 1 does not tell it.

    ``urls`` are other places where the content is, ``data`` is the content itself, proven, where the descriptor holds
    it (OCI image specification, descriptor.md).
    """

    digest: str
    size: int | None
    media_type: str = ""
    platform: Platform | None = None
    attestation: bool = False
    urls: tuple[str, ...] = ()
    data: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Index:
    """Manifests of one image for several platforms. ``artifact_type`` as in ``Image``."""

    manifests: tuple[Descriptor, ...]
    artifact_type: str = ""


@dataclass(frozen=True)
class Image:
    """The manifest of one platform; ``layers`` from the oldest to the newest.

    ``artifact_type`` is what it says to be, if it is no image and says so.
    """

    config: Descriptor
    layers: tuple[Descriptor, ...]
    artifact_type: str = ""

    @property
    def is_of_image(self) -> bool:
        """Whether its config is one of a container image, as far as its type tells."""
        return self.config.media_type in CONFIG_TYPES

    @property
    def kind(self) -> tuple[str, str] | None:
        """What it is instead of a container image, and the way out; None if it may be one."""
        with importing:
            from .artifact_type import any_kind_of, kind_of
        types = [layer.media_type for layer in self.layers]
        if self.is_of_image:
            return kind_of((self.artifact_type, *types))
        return any_kind_of(self.artifact_type, self.config.media_type, types)


@dataclass(frozen=True)
class Schema1:
    """An old manifest with its config inside; ``layers`` from the oldest to the newest, the empty ones left out."""

    config: Config
    layers: tuple[Descriptor, ...]


_RFC3339 = re.compile(
    r"\A(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.\d+)?(?:[Zz]|([+-])(\d\d):(\d\d))\Z", re.ASCII
)


@dataclass(frozen=True)
class Config:
    """What an image says of itself.

    ``document`` is the whole JSON object, ``diff_ids`` the digests of the tar archives.
    """

    platform: Platform
    diff_ids: tuple[str, ...] | None
    document: dict[str, Any] = field(repr=False)

    @property
    def created(self) -> str | None:
        """The image's own time stamp (RFC 3339), if it has one."""
        created = self.document.get("created")
        return created if isinstance(created, str) else None

    @property
    def moment(self) -> int:
        """The same in seconds since the epoch; 0 if there is none, or none that a file system can hold."""
        match = _RFC3339.match(self.created or "")
        if not match:
            return 0
        *date, sign, hours, minutes = match.groups()
        offset = (int(hours or 0) * 60 + int(minutes or 0)) * (-60 if sign == "-" else 60)
        try:
            seconds = calendar.timegm(tuple(map(int, date))) - offset
        except ValueError:
            return 0
        return seconds if 0 <= seconds < 2**32 else 0


def parse_manifest(content: bytes, media_type: str, what: object) -> Index | Image | Schema1:
    """Read the manifest of a container image, or an index, of any kind.

    :param media_type: of the answer; the document's own ``mediaType`` and shape decide where it is a generic one.
    :param what: names the image in errors.
    :raises InvalidManifest: if it follows none of the specifications, or is no container image.
    """
    manifest = parse_any(content, media_type, what)
    if isinstance(manifest, Image):
        if any(layer.media_type in SIF_TYPES for layer in manifest.layers):
            raise InvalidManifest(
                f"{what} is no container image but a finished SIF file; pull it as it is, with oras:// before its name"
            )
        if manifest.kind:
            raise InvalidManifest(f"{what} is no container image but {manifest.kind[0]}; {manifest.kind[1]}")
    elif isinstance(manifest, Index):
        with importing:
            from .artifact_type import kind_of
        kind = kind_of((manifest.artifact_type, *(entry.media_type for entry in manifest.manifests)))
        if kind:
            raise InvalidManifest(f"{what} is no container image but {kind[0]}; {kind[1]}")
    return manifest


def parse_any(content: bytes, media_type: str, what: object) -> Index | Image | Schema1:
    """Read a manifest, whatever it is of; its ``config`` and ``layers`` may be of any media type.

    :raises InvalidManifest: if it follows none of the specifications.
    """
    document = _object(content, what, "manifest")
    declared = document.get("mediaType")
    kind = declared if isinstance(declared, str) and declared else media_type
    if document.get("schemaVersion") == 1:
        return _schema1(document, what)
    told = document.get("artifactType")
    artifact_type = shown(told) if isinstance(told, str) else ""
    if kind in INDEX_TYPES or (kind not in IMAGE_TYPES and "manifests" in document):
        entries = tuple(_descriptor(entry, what, "manifests") for entry in _list(document, "manifests", what))
        return Index(entries, artifact_type)
    if kind in IMAGE_TYPES or "layers" in document:
        config = _descriptor(document.get("config"), what, "config")
        layers = tuple(_descriptor(entry, what, "layers") for entry in _list(document, "layers", what))
        return Image(config, layers, artifact_type)
    raise InvalidManifest(
        f"malformed manifest of {what}: it is neither an index nor an image (media type {shown(kind)!r})"
    )


def parse_config(content: bytes, what: object, claimed: Platform | None = None) -> Config:
    """Read an image config (OCI image specification, config.md). Without an ``os`` it is one for Linux, as all were
    once.

    :param claimed: the platform that somebody else says it is for; it counts where the config does not tell its own.
    :raises InvalidManifest: if it is malformed.
    """
    document = _object(content, what, "config")
    rootfs = document.get("rootfs")
    diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if diff_ids is not None and not (isinstance(diff_ids, list) and all(isinstance(d, str) for d in diff_ids)):
        raise InvalidManifest(f"malformed config of {what}: rootfs.diff_ids is no list of digests")
    for diff_id in diff_ids or ():
        _digest(diff_id, what, "config")
    _check_run_config(document, what)
    platform = _platform_of(document)
    if not (platform.os and platform.architecture):
        platform = claimed or Platform.of("linux", platform.architecture, platform.variant)
    return Config(platform, tuple(diff_ids) if diff_ids is not None else None, document)


def choose(index: Index, wanted: Platform, what: object) -> Descriptor:
    """The manifest of an index that serves a platform best; of equals the first, as the specification asks.

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
    """The error that says which platforms an image has instead of the wanted one."""
    names = ", ".join(dict.fromkeys(str(platform) for platform in offered))
    if not names:
        return PlatformNotFound(
            f"no image in {what}: its index has nothing, or only attestations of images; take another tag, or have "
            "the image pushed again"
        )
    return PlatformNotFound(f"no {wanted} in {what} (it has {names}); choose one of these with platform")


def _schema1(document: dict[str, Any], what: object) -> Schema1:
    """Schema 1 lists layers and history newest first; the newest history entry holds the image's config."""
    layers = _list(document, "fsLayers", what)
    history = _list(document, "history", what)
    if not layers or len(layers) != len(history):
        raise InvalidManifest(f"malformed schema 1 manifest of {what}: fsLayers and history differ in length")
    kept: list[Descriptor] = []
    newest: dict[str, Any] = {}
    for position, (layer, entry) in enumerate(zip(layers, history)):
        digest = layer.get("blobSum") if isinstance(layer, dict) else None
        text = entry.get("v1Compatibility") if isinstance(entry, dict) else None
        if not isinstance(digest, str) or not isinstance(text, str):
            raise InvalidManifest(
                f"malformed schema 1 manifest of {what}: layer {position} lacks blobSum or v1Compatibility"
            )
        compatibility = _object(text, what, "v1Compatibility")
        if position == 0:
            newest = compatibility
        if digest != SCHEMA1_EMPTY_LAYER and not compatibility.get("throwaway"):
            kept.insert(0, Descriptor(_digest(digest, what), None))
    for key in ("id", "parent", "parent_id", "layer_id", "throwaway", "Size"):
        newest.pop(key, None)
    newest["architecture"] = newest.get("architecture") or document.get("architecture") or "amd64"
    newest["os"] = newest.get("os") or "linux"
    _check_run_config(newest, what)
    return Schema1(Config(_platform_of(newest), None, newest), tuple(kept))


def _check_run_config(document: dict[str, Any], what: object) -> None:
    run = document.get("config")
    if run is None:
        document["config"] = run = {}
    if not isinstance(run, dict):
        raise InvalidManifest(f"malformed config of {what}: 'config' is no object")
    for key in ("Env", "Entrypoint", "Cmd"):
        value = run.get(key)
        if value is not None and not (isinstance(value, list) and all(isinstance(item, str) for item in value)):
            raise InvalidManifest(f"malformed config of {what}: 'config.{key}' is no list of strings")
        if any("\0" in item for item in value or ()):
            raise InvalidManifest(f"malformed config of {what}: 'config.{key}' holds a NUL character")
    labels = run.get("Labels")
    if labels is not None and not isinstance(labels, dict):
        raise InvalidManifest(f"malformed config of {what}: 'config.Labels' is no object")


def _platform_of(document: dict[str, Any]) -> Platform:
    """The platform of a config or of an object ``platform``; parts that it does not tell are empty."""
    return Platform.of(
        *(printable(document.get(key) or "", _MAX_PLATFORM_PART) for key in ("os", "architecture", "variant"))
    )


def _descriptor(entry: Any, what: object, where: str) -> Descriptor:
    if not isinstance(entry, dict):
        raise InvalidManifest(f"malformed manifest of {what}: an entry of '{where}' is no object")
    size = entry.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise InvalidManifest(f"malformed manifest of {what}: an entry of '{where}' has no size")
    if size > _MAX_SIZE:
        raise InvalidManifest(f"malformed manifest of {what}: an entry of '{where}' claims a size above {_MAX_SIZE}")
    platform = entry.get("platform")
    annotations = entry.get("annotations")
    known = _platform_of(platform) if isinstance(platform, dict) else None
    attestation = known == Platform("unknown", "unknown") or (
        isinstance(annotations, dict) and "vnd.docker.reference.type" in annotations
    )
    media_type = entry.get("mediaType")
    digest = _digest(entry.get("digest"), what)
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
    """The content that stands in a descriptor; None if there is none, or another one, so that it has to be fetched."""
    if not isinstance(text, str):
        return None
    try:
        content = base64.b64decode(text.encode(), validate=True)
    except ValueError:
        return None
    algorithm, _colon, encoded = digest.partition(":")
    return content if len(content) == size and hashlib.new(algorithm, content).hexdigest() == encoded else None


def _digest(value: Any, what: object, name: str = "manifest") -> str:
    try:
        return check_digest(value if isinstance(value, str) else "")
    except InvalidReference as error:
        raise InvalidManifest(f"malformed {name} of {what}: {error}") from error


def _list(document: dict[str, Any], key: str, what: object) -> list[Any]:
    value = document.get(key)
    if not isinstance(value, list):
        raise InvalidManifest(f"malformed manifest of {what}: '{key}' is no list")
    return value


def _object(content: bytes | str, what: object, name: str) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InvalidManifest(f"malformed {name} of {what}: it is not JSON") from error
    if not isinstance(document, dict):
        raise InvalidManifest(f"malformed {name} of {what}: it is no JSON object")
    _check_nesting(document, what, name)
    try:
        json.dumps(document, ensure_ascii=False, allow_nan=False).encode()
    except ValueError as error:  # half a surrogate pair, or NaN: the controller could not read the inventory any more
        raise InvalidManifest(f"malformed {name} of {what}: it has a text or number that JSON cannot tell") from error
    return document


def _check_nesting(document: dict[str, Any], what: object, name: str) -> None:
    """Refuse what would overrun the recursion of whoever writes or reads the document again."""
    level: list[Any] = [document]
    for _depth in range(_MAX_NESTING):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return
    raise InvalidManifest(f"malformed {name} of {what}: its JSON nests deeper than {_MAX_NESTING} levels")
