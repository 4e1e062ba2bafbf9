# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The use-case ``push``: a SIF file of this host, under a name in a registry, with what is known of its origin."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ..errors import InvalidManifest, InvalidReference, InvalidSif, InventoryError, PlatformNotFound, StorageError
from ..fs import guard, permit
from ..fs.digest import sha256_of
from ..fs.files import storage_error
from ..inventory import storage
from ..inventory.database import Inventory
from ..inventory.document import CLIENT_ORAS, Document, File
from ..inventory.provenance import OURS, Provenance, origin_of
from ..oci.descriptor import Descriptor
from ..oci.platform import Platform
from ..oci.reference import DOCKER_HUB, ORAS, Reference
from ..registry import artifact, upload
from ..registry.artifact import Parcel
from ..registry.client import Manifest, Registry
from ..registry.pool import Registries
from ..sif import container
from ..sif.formats import is_sandbox
from ..text import shown
from .outcome import ChangeOutcome

PUSHED, MOVED = "pushed", "moved"


@dataclass(frozen=True)
class PushRequest:
    """The file that is to be in a registry, and its name there.

    :ivar reference: an image of the inventory.
    :ivar path: a file, of that image if both are given.
    :ivar to: the name in the registry.
    :ivar annotations: on top of ours.
    :ivar force: push also a file that somebody has changed, and take the name of anything.
    """

    reference: Reference | None
    platform: Platform
    path: str | None
    to: Reference
    annotations: Mapping[str, str]
    force: bool = False
    check: bool = False


def parse_destination(text: str, default_registry: str = DOCKER_HUB) -> Reference:
    """Read ``[oras://][REGISTRY/]REPOSITORY[:TAG]``.

    :raises InvalidReference: if it is something else: what is pushed decides its digest, and it is never layers.
    """
    name = text.strip()
    reference = Reference.parse(name if not name or "://" in name else f"{ORAS}://{name}", default_registry)
    if reference.scheme != ORAS:
        raise InvalidReference(
            f"invalid destination {reference.uri!r}: a SIF file is pushed as it is; write "
            "[oras://]REGISTRY/REPOSITORY[:TAG]"
        )
    if reference.digest:
        raise InvalidReference(
            f"invalid destination {reference.uri!r}: its digest follows from what is pushed; give a tag"
        )
    return reference


def check_annotations(given: Mapping[Any, Any]) -> dict[str, str]:
    """Check the annotations that somebody wants.

    :raises InvalidReference: if one is no text, or has a key of ours.
    """
    for key, value in given.items():
        if not (isinstance(key, str) and key and isinstance(value, str)):
            raise InvalidReference(
                f"invalid annotation {key!r}: keys and values are texts; put the value {value!r} in quotes"
            )
        if key.startswith(OURS):
            raise InvalidReference(
                f"invalid annotation {key!r}: what begins with {OURS!r} is written by this collection; choose another "
                "key"
            )
    return dict(given)


@dataclass
class PushOutcome(ChangeOutcome):
    """The outcome of a push.

    :ivar digest: of the manifest in the registry; None if it failed before the registry was asked.
    :ivar sent: how many bytes were sent.
    :ivar mounted: whether the registry took the file from another of its repositories.
    :ivar measured: the file, where it is not as the inventory says.
    :ivar shown: the two sides of the difference.
    """

    digest: str | None = None
    sent: int = 0
    mounted: bool = False
    measured: File | None = None
    shown: tuple[dict[str, Any], dict[str, Any]] = ({}, {})

    @property
    def file(self) -> File | None:
        """The file that was pushed, as it is."""
        return self.measured

    def _details(self) -> dict[str, Any]:
        pushed = {"blobs": 1 if self.sent else 0, "bytes": self.sent}
        return {"digest": self.digest, "pushed": pushed, "mounted": self.mounted}

    def _facets(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return self.shown


def push_file(inventory: Inventory, registries: Registries, request: PushRequest) -> PushOutcome:
    """Make sure that a name in a registry means a file."""
    name = request.reference.uri if request.reference else str(request.path)
    outcome = PushOutcome(request.to, name=name)
    with outcome.catching():
        document, known = _chosen(inventory, request)
        path = (known.path if known else request.path) or ""
        outcome = dataclasses.replace(
            outcome, path=path, before=document, platform=document.platform if document else None
        )
        return _push(inventory, registries, request, outcome, known)
    return outcome


def _push(
    inventory: Inventory, registries: Registries, request: PushRequest, outcome: PushOutcome, known: File | None
) -> PushOutcome:
    """Push a file of this host.

    :param outcome: names the file, and the image that it is of.
    :param known: the file as the inventory has it.
    """
    document, path = outcome.before, outcome.path or ""
    word = document.word if document and not request.path else guard.ROOT
    with outcome.catching():
        try:
            with permit.reading(path, inventory.store, word) as held:
                file, annotations = _readable(request, document, known, path, held)
                parcel = Parcel(
                    layer=Descriptor(f"sha256:{file.sha256}", file.size),
                    title=f"{request.to.name}.sif",
                    annotations={**annotations, **request.annotations},
                )
                described = dataclasses.replace(outcome, measured=file, digest=parcel.digest)
                return _push_parcel(inventory, registries.origin_of(request.to), request, parcel, held, described)
        except FileNotFoundError as error:
            raise StorageError(f"there is no file {path} to push; pull or build it first") from error
        except OSError as error:
            raise storage_error(error, path) from error
    return outcome


def _readable(
    request: PushRequest, document: Document | None, known: File | None, path: str, held: str
) -> tuple[File, Mapping[str, str]]:
    """Return a file as it is, and the annotations that tell of its origin.

    :param held: by which the file is read.
    :raises InvalidSif, StorageError: if it cannot be pushed, or was changed.
    """
    _need_sif(held)
    intact = known is not None and dataclasses.replace(known, path=held).state() == storage.PRESENT
    if known and not intact and not request.force:
        raise StorageError(
            f"{path} is not what the inventory says, so it is not pushed: somebody changed it; pull or build it again, "
            "or push it with force, without what the inventory tells of it"
        )
    if document and known and intact:
        return known, Provenance.of(document, known).annotations
    return dataclasses.replace(File.at(held, sha256_of(held), {}), path=path), {}


def _push_parcel(
    inventory: Inventory, registry: Registry, request: PushRequest, parcel: Parcel, held: str, outcome: PushOutcome
) -> PushOutcome:
    """Make sure that a name in a registry means a manifest.

    :param held: by which the file is read.
    :param outcome: describes the file.
    """
    with outcome.catching():
        there, result = registry.get_or_none(request.to, writes=not request.check), outcome
        if there is None or there.digest != parcel.digest:
            shown = (
                _facet_of(registry, request, there) if there else {},
                _facet(parcel.digest, parcel.layer, parcel.annotations),
            )
            way = "" if request.check else _send(inventory, registry, request, parcel, held)
            result = dataclasses.replace(
                outcome,
                changed=True,
                action=MOVED if there else PUSHED,
                sent=parcel.layer.size or 0 if way == upload.SENT else 0,
                mounted=way == upload.MOUNTED,
                shown=shown,
            )
        return dataclasses.replace(result, warnings=registry.warnings(request.to.repository))
    return outcome


def _chosen(inventory: Inventory, request: PushRequest) -> tuple[Document | None, File | None]:
    """Return the file that is meant, and its image, as far as the inventory knows them.

    :raises InventoryError: if an image is named that has no such file, or several that differ.
    """
    if request.reference is None:
        return _known_at(inventory, request.path or "")
    document = inventory.get(request.reference, request.platform)
    files = [file for file in document.files if request.path in (None, file.path)] if document else []
    if document is None or not files:
        at = f" at {request.path}" if request.path else ""
        raise InventoryError(
            f"the inventory {inventory.directory} knows no file of {request.reference} for {request.platform}{at}; "
            "pull it first, or give the path of a file alone"
        )
    if len({file.sha256 for file in files}) > 1:
        paths = ", ".join(file.path for file in files)
        raise InventoryError(
            f"{request.reference} has several files that differ ({paths}); say with path which one to push"
        )
    return document, next((file for file in files if file.state() == storage.PRESENT), files[0])


def _known_at(inventory: Inventory, path: str) -> tuple[Document | None, File | None]:
    """Return the file at a path, and its image. A link means the file, and the inventory may know it by either."""
    if not path.startswith("/"):
        raise StorageError(f"{path!r} is no absolute path; write it with a leading '/'")
    for spelling in dict.fromkeys((os.path.normpath(path), os.path.realpath(path))):
        for document in inventory.owners(spelling):
            return document, document.file(spelling)
    return None, None


def _need_sif(path: str) -> None:
    """Refuse a path that has no SIF file.

    :raises StorageError: if there is no file.
    :raises InvalidSif: if it is none that can be pushed.
    """
    if os.path.isdir(path):
        raise InvalidSif(
            f"{path} is a {'sandbox' if is_sandbox(path) else 'directory'}; only SIF files can be pushed, so build one "
            "of it first"
        )
    try:
        container.read_header(path)
    except FileNotFoundError as error:
        raise StorageError(f"there is no file {path} to push; pull or build it first") from error
    except OSError as error:
        raise storage_error(error, path) from error
    except InvalidSif as error:
        raise InvalidSif(f"{error}; only SIF files can be pushed") from error


def _facet_of(registry: Registry, request: PushRequest, there: Manifest) -> dict[str, Any]:
    """Return what a difference shows of what has the name now.

    :raises InvalidManifest: if that is no SIF file, whose name is not taken without ``force``.
    """
    try:
        found = artifact.from_manifest(registry, request.to, there, request.platform)
        alone = found.manifest_digest == there.digest
    except (InvalidManifest, PlatformNotFound):
        alone = False
    if not alone and not request.force:
        raise InvalidManifest(
            f"{request.to} names something else than one SIF file in the registry ({shown(there.media_type)}), which "
            "would lose this name; choose another tag, or push with force"
        )
    if not alone:
        return {"digest": there.digest, "media_type": there.media_type}
    return _facet(found.digest, found.layer, found.annotations)


def _facet(digest: str, layer: Descriptor, annotations: Mapping[str, str]) -> dict[str, Any]:
    return {
        "digest": digest,
        "sha256": layer.digest.partition(":")[2],
        "size": layer.size,
        "annotations": dict(annotations),
    }


def _send(inventory: Inventory, registry: Registry, request: PushRequest, parcel: Parcel, held: str) -> str:
    """Send a file and its manifest; return the way that the file took: sent, mounted, or there before."""
    mount_from = _mount_from(inventory, request.to, parcel.layer.digest)
    try:
        with open(held, "rb") as stream:
            return artifact.push(registry, request.to, parcel, stream, mount_from)
    except OSError as error:
        raise storage_error(error, held) from error


def _mount_from(inventory: Inventory, to: Reference, digest: str) -> str | None:
    """Return another repository of the same registry, from which this very file was pulled. It only saves traffic."""
    with suppress(InventoryError):
        for document in inventory.documents():
            origin = origin_of(document)
            if (
                document.client == CLIENT_ORAS
                and origin.registry == to.registry
                and origin.repository != to.repository
                and any(layer["digest"] == digest for layer in document.layers)
            ):
                return origin.repository
    return None
