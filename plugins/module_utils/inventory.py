# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The inventory: a directory of JSON documents, one for each image of each platform.

A document says what a name pointed at when it was last asked for, and which files on this host were built from it and
when. ``docs/inventory.schema.json`` is its schema. Reading or writing one document does not depend on how many there
are.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from .errors import InvalidPlatform, InventoryError
from .files import locked, make_directory, read_regular, replacing, storage_error
from .platform import Platform
from .reference import DOCKER, Reference

SCHEMA_VERSION = 1
LOCK_TIMEOUT = 600.0  # seconds; who holds a document only writes it
SREGISTRY = "sregistry"  # the key of what sregistry's own database said, among the metrics
CLIENT = "dockerhub"  # sregistry's name for its client of all Docker and OCI registries
CLIENT_ORAS, CLIENT_WEB = "oras", "web"  # of finished files

_SUFFIX = ".json"
_MAX_FILE_NAME = 200
_MAX_DOCUMENT = 64 * 1024 * 1024  # bytes; no manifest and config that are accepted come near it


def timestamp() -> str:
    """Now, in UTC, as RFC 3339 writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


@dataclass(frozen=True)
class File:
    """An image file on this host: how it was made, and by what it is recognised (size in bytes, mtime in ns).

    ``manifest_digest`` is that of the image it was built from; None, like engine, packer and builder, where it was not
    built from one here.
    """

    path: str
    size: int
    mtime_ns: int
    sha256: str
    manifest_digest: str | None
    inputs: dict[str, str]
    engine_version: str | None
    packer: str | None
    builder: str | None
    created_at: str


@dataclass(frozen=True)
class Document:
    """One image: what its name points at, and its files.

    ``client`` says, in sregistry's words, where it comes from. Of an image that comes from no registry the digests,
    ``media_type`` and ``size`` are None, and ``url`` is what is known of its origin, maybe nothing.
    """

    reference: Reference
    platform: Platform
    digest: str | None
    manifest_digest: str | None
    media_type: str | None
    layers: tuple[dict[str, Any], ...]
    size: int | None
    metrics: dict[str, Any] = field(repr=False)
    created_at: str
    updated_at: str
    files: tuple[File, ...] = ()
    client: str = CLIENT
    url: str | None = None

    def file(self, path: str) -> File | None:
        """The file at a path, if this image has one there."""
        return next((file for file in self.files if file.path == path), None)

    def with_file(self, file: File) -> Document:
        """This document with a file added, or put in place of the one at the same path."""
        others = tuple(other for other in self.files if other.path != file.path)
        return dataclasses.replace(self, files=(*others, file))

    def without_file(self, path: str) -> Document:
        """This document without the file at a path."""
        return dataclasses.replace(self, files=tuple(file for file in self.files if file.path != path))

    @property
    def told(self) -> dict[str, Any]:
        """The documents of the registry or web server, without what was taken over from sregistry."""
        return {name: document for name, document in self.metrics.items() if name != SREGISTRY}

    def to_json(self) -> dict[str, Any]:
        """The document as it is stored; its first keys are those that ``sregistry inspect`` shows."""
        newest = self.files[-1] if self.files else None
        return {
            "schema_version": SCHEMA_VERSION,
            "client": self.client,
            "collection": self.reference.collection,
            "name": self.reference.name,
            "tag": self.reference.tag or "",
            "version": newest.sha256 if newest else "",
            "uri": self.reference.uri,
            "url": self.reference.url if self.url is None else self.url,
            "image": newest.path if newest else None,
            "created_at": self.created_at,
            "updated_at": self.updated_at,
            "registry": self.reference.registry,
            "repository": self.reference.repository,
            "digest": self.digest,
            "manifest_digest": self.manifest_digest,
            "media_type": self.media_type,
            "platform": str(self.platform),
            "size": self.size,
            "layers": list(self.layers),
            "files": [dataclasses.asdict(file) for file in self.files],
            "metrics": self.metrics,
        }

    def rows(self) -> list[dict[str, Any]]:
        """The short form for facts: one row a file, or one with ``image`` null where there is none."""
        common = {
            "uri": self.reference.uri,
            "registry": self.reference.registry,
            "collection": self.reference.collection,
            "name": self.reference.name,
            "tag": self.reference.tag or "",
            "platform": str(self.platform),
            "client": self.client,
            "digest": self.digest,
            "manifest_digest": self.manifest_digest,
            "updated_at": self.updated_at,
        }
        if not self.files:
            unbuilt = {
                "image": None,
                "version": "",
                "size": None,
                "mtime_ns": None,
                "built_from": None,
                "outdated": None,
            }
            return [{**common, **unbuilt, "created_at": self.created_at}]
        return [
            {
                **common,
                "image": file.path,
                "version": file.sha256,
                "size": file.size,
                "mtime_ns": file.mtime_ns,
                "created_at": file.created_at,
                "built_from": file.manifest_digest,
                "outdated": None if file.manifest_digest is None else file.manifest_digest != self.manifest_digest,
            }
            for file in self.files
        ]


class Inventory:
    """A directory of documents."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self._documents = os.path.join(directory, "images")

    @property
    def begun(self) -> bool:
        """Whether anything was ever recorded here."""
        return os.path.isdir(self._documents)

    def get(self, reference: Reference, platform: Platform) -> Document | None:
        """The document of an image of one platform; None if it was never recorded.

        :raises InventoryError: if there is one that cannot be read.
        """
        path = self._path(reference, platform)
        document = _load(path)
        if document and (document.reference, document.platform) != (reference, platform):
            raise InventoryError(
                f"the inventory document {path} is that of {document.reference} for {document.platform}; "
                "it was moved or tampered with, remove it and pull or record the image again"
            )
        return document

    def put(self, document: Document) -> None:
        """Write a document, in place of the one that the same image has.

        :raises StorageError, NoSpace: if it cannot be written; the old one is then as before.
        :raises InventoryError: if the registry's documents nest too deep to be written.
        """
        path = self._path(document.reference, document.platform)
        make_directory(self._documents)
        try:
            content = _encode(document.to_json())
        except RecursionError as error:
            raise InventoryError(f"the manifest or config of {document.reference} nests too deep to be kept") from error
        with replacing(path) as stream:
            stream.write(content)

    def remove(self, reference: Reference, platform: Platform) -> None:
        """Forget an image of one platform; nothing happens where it is not known.

        :raises StorageError: if its document cannot be removed.
        """
        path = self._path(reference, platform)
        try:
            os.unlink(path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise storage_error(error, path) from error

    @contextmanager
    def locked(self, reference: Reference, platform: Platform, timeout: float) -> Iterator[None]:
        """Hold one image against other runs, also those of other hosts on a shared file system.

        :param timeout: seconds.
        :raises StorageError: if the lock cannot be had.
        """
        with self._locked(_file_name(reference, platform), timeout):
            yield

    @contextmanager
    def locked_path(self, path: str, timeout: float) -> Iterator[None]:
        """Hold one file against runs for other images that have it as their destination; as ``locked``."""
        with self._locked(f"file,{hashlib.sha256(os.fsencode(path)).hexdigest()}", timeout):
            yield

    @contextmanager
    def _locked(self, name: str, timeout: float) -> Iterator[None]:
        locks = os.path.join(self.directory, "locks")
        make_directory(locks)
        with locked(os.path.join(locks, name + ".lock"), timeout):
            yield

    def documents(self) -> Iterator[Document]:
        """All documents, in the order of their file names.

        :raises InventoryError: at the first that cannot be read.
        """
        for entry in self._scan():
            document = _load(entry.path)
            if document:
                yield document

    def rows(self) -> list[dict[str, Any]]:
        """The whole inventory in short form, by name.

        :raises InventoryError: if a document cannot be read.
        """
        rows = [row for document in self.documents() for row in document.rows()]
        return sorted(rows, key=lambda row: (row["uri"], row["platform"], row["image"] or ""))

    def count(self) -> int:
        """How many documents there are."""
        return len(self._scan())

    def owners(self, path: str) -> list[Document]:
        """The images that have a file at a path, looked for in all documents."""
        return [document for document in self.documents() if document.file(path)]

    def _scan(self) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(self._documents) as entries:
                found = [entry for entry in entries if _is_document(entry)]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise storage_error(error, self._documents) from error
        return sorted(found, key=lambda entry: entry.name)

    def _path(self, reference: Reference, platform: Platform) -> str:
        return os.path.join(self._documents, _file_name(reference, platform) + _SUFFIX)


def _is_document(entry: os.DirEntry[str]) -> bool:
    return entry.name.endswith(_SUFFIX) and not entry.name.startswith(".") and entry.is_file(follow_symlinks=False)


def _file_name(reference: Reference, platform: Platform) -> str:
    """A readable name without ``/`` and ``:``, one for each image; names that are too long end in a hash."""
    text = "" if reference.scheme == DOCKER else f"{reference.scheme}://"
    text += f"{reference.registry}/{reference.repository}"
    text += f"@{reference.digest}" if reference.digest else f"={reference.tag}" if reference.tag else ""
    name = f"{text},{platform}".replace("/", "+").replace(":", "=")
    if len(name) > _MAX_FILE_NAME:
        name = f"{name[:120]},{hashlib.sha256(name.encode()).hexdigest()}"
    return name


def _encode(data: dict[str, Any]) -> bytes:
    """JSON in UTF-8; what UTF-8 cannot say (a path's undecodable byte, half a surrogate pair) is a JSON escape."""
    return json.dumps(data, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def _unreadable(path: str, error: OSError) -> InventoryError:
    return InventoryError(
        f"cannot read the inventory document {path}: {error.strerror}; "
        "let this user read it, or remove it and pull or record the image again"
    )


def _load(path: str) -> Document | None:
    try:
        data = json.loads(read_regular(path, _MAX_DOCUMENT).decode("utf-8", "surrogateescape"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(path, error) from error
    except (ValueError, RecursionError) as error:
        raise InventoryError(
            f"the inventory document {path} is not JSON; restore it, or remove it and pull or record the image again"
        ) from error
    version = data.get("schema_version") if isinstance(data, dict) else None
    if version != SCHEMA_VERSION:
        raise InventoryError(
            f"the inventory document {path} has schema version {version!r}, this collection reads {SCHEMA_VERSION}; "
            "use the version of hpc.sregistry that wrote it, or remove it and pull or record the image again"
        )
    try:
        reference = Reference(data["registry"], data["repository"], data["tag"] or None, _pinned(data), _scheme(data))
        return Document(
            reference=reference,
            platform=Platform.parse(data["platform"]),
            digest=data["digest"],
            manifest_digest=data["manifest_digest"],
            media_type=data["media_type"],
            layers=tuple(data["layers"]),
            size=data["size"],
            metrics=data["metrics"],
            created_at=data["created_at"],
            updated_at=data["updated_at"],
            client=data["client"],
            url=None if data["url"] == reference.url else data["url"],
            files=tuple(File(**{"builder": "sandbox", **file}) for file in data["files"]),  # once the only one
        )
    except (KeyError, TypeError, AttributeError, InvalidPlatform) as error:
        wrong = f"lacks {error}" if isinstance(error, KeyError) else f"misspells a part ({error})"
        raise InventoryError(
            f"the inventory document {path} {wrong}; restore it, or remove it and pull or record the image again"
        ) from error


def _pinned(data: dict[str, Any]) -> str | None:
    """The digest that is part of the name, if the name is by digest."""
    return data["uri"].partition("@")[2] or None


def _scheme(data: dict[str, Any]) -> str:
    """The scheme that is part of the name, if it is not Docker's."""
    return data["uri"].rpartition("://")[0] or DOCKER
