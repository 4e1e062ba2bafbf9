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
from .outcome import PRESENT, Change

PUSHED, MOVED = "pushed", "moved"


@dataclass(frozen=True)
class Wanted:
    """What shall be in a registry, and where.

    ``reference`` is an image of the inventory, ``path`` a file, of that image if both are given. ``annotations`` come
    on top of ours. With ``force``, a file that somebody has changed is pushed too, and takes the name of anything.
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
    """Annotations that somebody wants, if they can be had.

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


def push(inventory: Inventory, registries: Registries, wanted: Wanted) -> Change:
    """Make sure that a name in a registry means a file. An error is that of the change."""
    name = wanted.reference.uri if wanted.reference else str(wanted.path)
    change = Change(name, uri=wanted.to.uri, more={"digest": None, "pushed": _sent(0), "mounted": False})
    with change.catching():
        _push(inventory, registries, wanted, change)
    return change


def _push(inventory: Inventory, registries: Registries, wanted: Wanted, change: Change) -> None:
    document, known = _chosen(inventory, wanted)
    change.path, change.document = known.path if known else wanted.path, document
    change.platform = str(document.platform) if document else None
    path = change.path or ""
    word = document.word if document and not wanted.path else guard.ROOT
    try:
        with permit.reading(path, inventory.store, word) as held:
            _push_file(inventory, registries, wanted, change, held)
    except FileNotFoundError as error:
        raise StorageError(f"there is no file {path} to push; pull or build it first") from error
    except OSError as error:
        raise storage_error(error, path) from error


def _push_file(inventory: Inventory, registries: Registries, wanted: Wanted, change: Change, held: str) -> None:
    """
    :param held: by which the file is read.
    """
    document, path = change.document, change.path or ""
    known = document.file(path) if document else None
    _need_sif(held)
    intact = known is not None and dataclasses.replace(known, path=held).state() == storage.PRESENT
    if known and not intact and not wanted.force:
        raise StorageError(
            f"{path} is not what the inventory says, so it is not pushed: somebody changed it; pull or build it again, "
            "or push it with force, without what the inventory tells of it"
        )
    change.file = known if known and intact else dataclasses.replace(_measured(held), path=path)
    provenance = Provenance.of(document, known).annotations if document and known and intact else {}
    parcel = Parcel(
        layer=Descriptor(f"sha256:{change.file.sha256}", change.file.size),
        title=f"{wanted.to.name}.sif",
        annotations={**provenance, **wanted.annotations},
    )
    registry = registries.origin_of(wanted.to)
    there = registry.get_or_none(wanted.to, writes=not wanted.check)
    change.more["digest"] = parcel.digest
    if there and there.digest == parcel.digest:
        change.action = PRESENT
    else:
        change.before = _facet_of(registry, wanted, there) if there else {}
        change.after = _facet(parcel.digest, parcel.layer, parcel.annotations)
        if not wanted.check:
            _send(inventory, registry, wanted, parcel, change, held)
        change.changed, change.action = True, MOVED if there else PUSHED
    change.warnings.extend(registry.warnings(wanted.to.repository))


def _chosen(inventory: Inventory, wanted: Wanted) -> tuple[Document | None, File | None]:
    """The file that is meant, and its image, as far as the inventory knows them.

    :raises InventoryError: if an image is named that has no such file, or several that differ.
    """
    if wanted.reference is None:
        return _known_at(inventory, wanted.path or "")
    document = inventory.get(wanted.reference, wanted.platform)
    files = [file for file in document.files if wanted.path in (None, file.path)] if document else []
    if document is None or not files:
        at = f" at {wanted.path}" if wanted.path else ""
        raise InventoryError(
            f"the inventory {inventory.directory} knows no file of {wanted.reference} for {wanted.platform}{at}; pull "
            "it first, or give the path of a file alone"
        )
    if len({file.sha256 for file in files}) > 1:
        paths = ", ".join(file.path for file in files)
        raise InventoryError(
            f"{wanted.reference} has several files that differ ({paths}); say with path which one to push"
        )
    return document, next((file for file in files if file.state() == storage.PRESENT), files[0])


def _known_at(inventory: Inventory, path: str) -> tuple[Document | None, File | None]:
    """Who names a link means the file, and the inventory may know it by either."""
    if not path.startswith("/"):
        raise StorageError(f"{path!r} is no absolute path; write it with a leading '/'")
    for spelling in dict.fromkeys((os.path.normpath(path), os.path.realpath(path))):
        for document in inventory.owners(spelling):
            return document, document.file(spelling)
    return None, None


def _need_sif(path: str) -> None:
    """
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


def _measured(path: str) -> File:
    """A file that the inventory does not know, or knows otherwise."""
    return File.at(path, sha256_of(path), {})


def _facet_of(registry: Registry, wanted: Wanted, there: Manifest) -> dict[str, Any]:
    """What a difference shows of what has the name now.

    :raises InvalidManifest: if that is no SIF file, whose name is not taken without ``force``.
    """
    try:
        found = artifact.from_manifest(registry, wanted.to, there, wanted.platform)
        alone = found.manifest_digest == there.digest
    except (InvalidManifest, PlatformNotFound):
        alone = False
    if not alone and not wanted.force:
        raise InvalidManifest(
            f"{wanted.to} names something else than one SIF file in the registry ({shown(there.media_type)}), which "
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


def _send(inventory: Inventory, registry: Registry, wanted: Wanted, parcel: Parcel, change: Change, held: str) -> None:
    mount_from = _mount_from(inventory, wanted.to, parcel.layer.digest)
    try:
        with open(held, "rb") as stream:
            way = artifact.push(registry, wanted.to, parcel, stream, mount_from)
    except OSError as error:
        raise storage_error(error, held) from error
    change.more["pushed"] = _sent(parcel.layer.size or 0) if way == upload.SENT else _sent(0)
    change.more["mounted"] = way == upload.MOUNTED


def _mount_from(inventory: Inventory, to: Reference, digest: str) -> str | None:
    """Another repository of the same registry, from which this very file was pulled. It only saves traffic."""
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


def _sent(size: int) -> dict[str, int]:
    return {"blobs": 1 if size else 0, "bytes": size}
