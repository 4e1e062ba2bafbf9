# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A finished SIF file in a registry: the artifact of one layer that ``oras://`` names.

Source: ``internal/pkg/client/oras`` of Apptainer and SingularityCE. As there, only the media type of the layer counts:
that of the config was not always the same.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from .errors import InvalidManifest
from .manifest import CONFIG_TYPES, SIF_TYPES, Descriptor, Image, Index, Schema1, choose, parse_any
from .platform import Platform
from .reference import Reference
from .registry import Registry


@dataclass(frozen=True)
class Artifact:
    """A SIF file in a registry, not fetched yet.

    ``digest`` is what the name points at (index or manifest), ``manifest_digest`` that of the platform's manifest,
    ``layer`` the file itself. ``documents`` are the JSON documents as received: index, manifest.
    """

    reference: Reference
    digest: str
    media_type: str
    manifest_digest: str
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


def resolve(registry: Registry, reference: Reference, wanted: Platform, digest: str | None = None) -> Artifact:
    """Follow a name, through an index if there is one, to the manifest of a SIF.

    A manifest says no platform: only the file itself tells for which architecture it is.

    :param digest: what the name points at, where that is known and not to be asked.
    :raises PlatformNotFound: if an index has none for this platform, listing what it has.
    :raises InvalidManifest: if a document is malformed, or is not that of a SIF.
    :raises RegistryError: as the registry raises it.
    """
    top = body = registry.fetch(reference.at(digest) if digest else reference)
    documents = {}
    manifest = parse_any(body.content, body.media_type, reference)
    if isinstance(manifest, Index):
        documents["index"] = json.loads(body.content)
        body = registry.fetch(reference.at(choose(manifest, wanted, reference).digest))
        manifest = parse_any(body.content, body.media_type, reference)
    documents["manifest"] = json.loads(body.content)
    return Artifact(reference, top.digest, top.media_type, body.digest, _layer(manifest, reference), documents)


def _layer(manifest: Index | Image | Schema1, reference: Reference) -> Descriptor:
    """The only layer, if that is a SIF."""
    if isinstance(manifest, Image):
        fitting = [layer for layer in manifest.layers if layer.media_type in SIF_TYPES]
        if fitting and len(manifest.layers) == 1:
            return fitting[0]
        if fitting:
            raise InvalidManifest(f"{reference} has {len(manifest.layers)} layers; what is a SIF file has one")
        if manifest.config.media_type not in CONFIG_TYPES:
            raise InvalidManifest(
                f"{reference} is no SIF file but an artifact of type {manifest.config.media_type!r}; "
                "name one that apptainer push has written"
            )
    if isinstance(manifest, Index):
        raise InvalidManifest(f"{reference} is an index of indexes; name what is to be pulled by its digest")
    raise InvalidManifest(
        f"{reference} is no SIF file but a container image, whose layers have to be built into one; "
        "name it with docker:// instead of oras://"
    )
