# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Finding out the pin of a name with as few requests as possible."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import InvalidReference
from ..oci.blobs import BlobCache
from ..oci.pins import Pin
from ..oci.platform import Platform
from ..oci.reference import Reference
from . import artifact, image
from .pool import Registries


def pin(
    registries: Registries, cache: BlobCache, reference: Reference, wanted: Sequence[Platform], known: Pin | None = None
) -> Pin:
    """Return what a name points at now, and the manifests for some platforms.

    :param wanted: the platforms; with none, only the name is asked about, by one request.
    :param known: what was found before; one HEAD is enough if that still holds.
    :raises InvalidReference: if nobody but the file itself could tell the digest.
    :raises PlatformNotFound: if one of the platforms is not there, listing what exists.
    :raises InvalidManifest, RegistryError, StorageError: as registry and cache raise them.
    """
    if reference.from_web:
        return _of_web(reference)
    registry = registries.of(reference)
    if not wanted:
        return Pin(registry.digest(reference))
    if known and _is_answered(reference, wanted, known) and registry.head(reference).digest == known.digest:
        return Pin(known.digest, {platform: known.platforms[platform] for platform in wanted if known.platforms})
    if not reference.is_sif:
        return Pin(*image.manifests(registry, cache, reference, wanted))
    first = artifact.resolve_artifact(registry, reference, wanted[0])
    if "index" not in first.documents:
        return Pin(first.digest)
    manifests = {wanted[0]: first.manifest_digest}
    for platform in wanted[1:]:
        found = artifact.resolve_artifact(registry, reference, platform, first.digest)
        manifests[platform] = found.manifest_digest
    return Pin(first.digest, manifests)


def _of_web(reference: Reference) -> Pin:
    if not reference.digest:
        raise InvalidReference(
            f"{reference} is on a web server, which tells no digest; write the name with the digest of the file, as "
            "ADDRESS@sha256:…"
        )
    return Pin(reference.digest)


def _is_answered(reference: Reference, wanted: Sequence[Platform], known: Pin) -> bool:
    """Tell whether a pin tells of all platforms, or is that of a file that does not tell its own."""
    return set(wanted) <= set(known.platforms) or (reference.is_sif and not known.platforms)
