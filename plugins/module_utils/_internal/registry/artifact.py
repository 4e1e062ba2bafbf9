# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A finished SIF file in a registry: the artifact of one layer that ``oras://`` names, read and written.

Source: ``internal/pkg/client/oras`` of Apptainer and SingularityCE. As there, only the media type of the layer counts:
that of the config was not always the same.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO, Any

from ..errors import InvalidManifest
from ..oci.descriptor import Descriptor
from ..oci.manifest import SIF_TYPE, SIF_TYPES, ImageManifest, Index, choose, parse_any
from ..oci.platform import Platform
from ..oci.reference import Reference
from ..oci.schema1 import Schema1
from . import upload
from .blob_source import manifest_of
from .client import Manifest, Registry

SIF_CONFIG_TYPE = "application/vnd.sylabs.sif.config.v1+json"
TITLE = "org.opencontainers.image.title"

_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True)
class Artifact:
    """A SIF file in a registry, not fetched yet.

    ``digest`` is what the name points at (index or manifest), ``manifest_digest`` that of the platform's manifest,
    ``config`` a small JSON object, mostly empty, ``layer`` the file itself. ``documents`` are the JSON documents as
    received: index, manifest.
    """

    reference: Reference
    digest: str
    media_type: str
    manifest_digest: str
    config: Descriptor
    layer: Descriptor
    documents: dict[str, Any] = field(repr=False)

    @property
    def layers(self) -> tuple[Descriptor, ...]:
        """The one layer."""
        return (self.layer,)

    @property
    def size(self) -> int | None:
        """Bytes of the file."""
        return self.layer.size

    @property
    def annotations(self) -> dict[str, str]:
        """The annotations of the manifest, as they were pushed."""
        given = self.documents["manifest"].get("annotations")
        pairs = given.items() if isinstance(given, dict) else ()
        return {key: value for key, value in pairs if isinstance(value, str)}


def resolve_artifact(registry: Registry, reference: Reference, wanted: Platform, digest: str | None = None) -> Artifact:
    """Follow a name, through an index if there is one, to the manifest of a SIF.

    A manifest says no platform: only the file itself tells for which architecture it is.

    :param digest: what the name points at, where that is known and not to be asked.
    :raises PlatformNotFound: if an index has none for this platform, listing what it has.
    :raises InvalidManifest: if a document is malformed, or is not that of a SIF.
    :raises RegistryError: as the registry raises it.
    """
    return from_manifest(registry, reference, registry.get(reference.at(digest) if digest else reference), wanted)


def from_manifest(registry: Registry, reference: Reference, top: Manifest, wanted: Platform) -> Artifact:
    """Follow what a name points at, as ``resolve_artifact`` does."""
    body, documents = top, {}
    manifest = parse_any(body.content, body.media_type, reference)
    if isinstance(manifest, Index):
        documents["index"] = json.loads(body.content)
        body = manifest_of(registry, reference, choose(manifest, wanted, reference))
        manifest = parse_any(body.content, body.media_type, reference)
    documents["manifest"] = json.loads(body.content)
    image = _sound(manifest, reference)
    return Artifact(reference, top.digest, top.media_type, body.digest, image.config, image.layers[0], documents)


@dataclass(frozen=True)
class Parcel:
    """A SIF file as it is to lie in a registry: its descriptor, its file name, and annotations.

    ``config`` is a JSON object that engines do not read, ``annotations`` are those of the manifest.
    """

    layer: Descriptor
    title: str
    config: bytes = b"{}"
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def manifest(self) -> bytes:
        """The manifest, the same bytes for the same parcel."""
        document = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST_TYPE,
            "config": _to_json(SIF_CONFIG_TYPE, _descriptor_of(self.config)),
            "layers": [{**_to_json(SIF_TYPE, self.layer), "annotations": {TITLE: self.title}}],
            **({"annotations": dict(sorted(self.annotations.items()))} if self.annotations else {}),
        }
        return json.dumps(document, separators=(",", ":")).encode()

    @property
    def digest(self) -> str:
        """The digest of the manifest."""
        return _descriptor_of(self.manifest).digest


def push(
    registry: Registry, reference: Reference, parcel: Parcel, stream: IO[bytes], mount_from: str | None = None
) -> str:
    """Put a SIF file into a registry under a name: first all content, then what names it.

    :param stream: the file.
    :param mount_from: another repository of this registry that has the file already.
    :returns: what had to be done for the file: ``upload.THERE``, ``MOUNTED`` or ``SENT``.
    :raises DigestMismatch: if the file is not that of the parcel.
    :raises RegistryError: if the registry does not take it; the name is then as it was.
    """
    sent = upload.put_blob(registry, reference.repository, parcel.layer, stream, mount_from)
    upload.put_blob(registry, reference.repository, _descriptor_of(parcel.config), io.BytesIO(parcel.config))
    upload.put_manifest(registry, reference, _MANIFEST_TYPE, parcel.manifest)
    return sent


def _descriptor_of(content: bytes) -> Descriptor:
    return Descriptor(f"sha256:{hashlib.sha256(content).hexdigest()}", len(content))


def _to_json(media_type: str, descriptor: Descriptor) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": descriptor.digest, "size": descriptor.size}


def _sound(manifest: Index | ImageManifest | Schema1, reference: Reference) -> ImageManifest:
    """Return a manifest whose only layer is a SIF.

    :raises InvalidManifest: if it is another one.
    """
    if isinstance(manifest, ImageManifest):
        fitting = [layer for layer in manifest.layers if layer.media_type in SIF_TYPES]
        if fitting and len(manifest.layers) == 1:
            return manifest
        if fitting:
            raise InvalidManifest(f"{reference} has {len(manifest.layers)} layers; what is a SIF file has one")
        if manifest.kind:
            raise InvalidManifest(
                f"{reference} is not a SIF file but {manifest.kind[0]}; name one that apptainer push has written"
            )
    if isinstance(manifest, Index):
        raise InvalidManifest(f"{reference} is an index of indexes; name what is to be pulled by its digest")
    raise InvalidManifest(
        f"{reference} is not a SIF file but a container image, whose layers have to be built into one; "
        "name it with docker:// instead of oras://"
    )
