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
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from .errors import InvalidPlatform, InventoryError, NoSpace, StorageError
from .files import locked, make_directory, replacing, storage_error
from .platform import Platform
from .reference import Reference

SCHEMA_VERSION = 1
CLIENT = "dockerhub"  # sregistry's name for its client of all Docker and OCI registries

_SUFFIX = ".json"
_MAX_FILE_NAME = 200
_ROWS = "rows.json"
_STALE_ROWS = 64  # documents read anew before it pays to write the rows again
_USED_KEYS = {"uri", "platform", "image", "version", "size", "mtime_ns"}  # of a row, by this library itself
_SETTLED = 2_000_000_000  # ns; a younger document may change again with the same time stamp and inode


@dataclass(frozen=True)
class File:
    """An image file on this host: how it was built, and by what it is recognised (size in bytes, mtime in ns)."""

    path: str
    size: int
    mtime_ns: int
    sha256: str
    manifest_digest: str
    inputs: dict[str, str]
    engine_version: str
    packer: str
    created_at: str


@dataclass(frozen=True)
class Document:
    """One image: what its name points at, and its files."""

    reference: Reference
    platform: Platform
    digest: str
    manifest_digest: str
    media_type: str
    layers: tuple[dict[str, Any], ...]
    size: int | None
    metrics: dict[str, Any] = field(repr=False)
    created_at: str
    updated_at: str
    files: tuple[File, ...] = ()

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

    def to_json(self) -> dict[str, Any]:
        """The document as it is stored; its first keys are those that ``sregistry inspect`` shows."""
        newest = self.files[-1] if self.files else None
        return {
            "schema_version": SCHEMA_VERSION,
            "client": CLIENT,
            "collection": self.reference.collection,
            "name": self.reference.name,
            "tag": self.reference.tag or "",
            "version": newest.sha256 if newest else "",
            "uri": self.reference.uri,
            "url": f"docker://{self.reference.registry}/{self.reference.repository}"
            + (f"@{self.reference.digest}" if self.reference.digest else f":{self.reference.tag}"),
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
            "client": CLIENT,
            "digest": self.digest,
            "manifest_digest": self.manifest_digest,
            "updated_at": self.updated_at,
        }
        if not self.files:
            unbuilt = {"image": None, "version": "", "size": None, "mtime_ns": None, "outdated": None}
            return [{**common, **unbuilt, "created_at": self.created_at}]
        return [
            {
                **common,
                "image": file.path,
                "version": file.sha256,
                "size": file.size,
                "mtime_ns": file.mtime_ns,
                "created_at": file.created_at,
                "outdated": file.manifest_digest != self.manifest_digest,
            }
            for file in self.files
        ]


class Inventory:
    """A directory of documents."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self._documents = os.path.join(directory, "images")

    def get(self, reference: Reference, platform: Platform) -> Document | None:
        """The document of an image of one platform; None if it was never recorded.

        :raises InventoryError: if there is one that cannot be read.
        """
        return _load(self._path(reference, platform))

    def put(self, document: Document) -> None:
        """Write a document, in place of the one that the same image has.

        :raises StorageError, NoSpace: if it cannot be written; the old one is then as before.
        :raises InventoryError: if the registry's documents nest too deep to be written.
        """
        path = self._path(document.reference, document.platform)
        make_directory(self._documents)
        try:
            content = _encode(document.to_json(), indent=1)
        except RecursionError as error:
            raise InventoryError(f"the manifest or config of {document.reference} nests too deep to be kept") from error
        with replacing(path) as stream:
            stream.write(content)

    @contextmanager
    def locked(self, reference: Reference, platform: Platform, timeout: float) -> Iterator[None]:
        """Hold one image against other runs, also those of other hosts on a shared file system.

        :param timeout: seconds.
        :raises StorageError: if the lock cannot be had.
        """
        locks = os.path.join(self.directory, "locks")
        make_directory(locks)
        with locked(os.path.join(locks, _file_name(reference, platform) + ".lock"), timeout):
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

        A copy of the rows is kept beside the documents and only what changed is read anew; it may be deleted at any
        time.

        :raises InventoryError: if a document cannot be read.
        """
        kept = self._kept_rows()
        settled = time.time_ns() - _SETTLED
        current: dict[str, Any] = {}
        stale = 0
        for entry in self._scan():
            try:
                status = entry.stat()
            except FileNotFoundError:
                continue
            except OSError as error:
                raise _unreadable(entry.path, error) from error
            mark = [status.st_ino, status.st_mtime_ns, status.st_size]
            known = kept.get(entry.name)
            if known is not None and known[0] == mark:
                current[entry.name] = known
                continue
            document = _load(entry.path)
            if document:
                stale += 1
                current[entry.name] = [mark, document.rows()]
        if stale > _STALE_ROWS or len(kept) > len(current) + _STALE_ROWS:
            self._keep_rows({name: known for name, known in current.items() if known[0][1] < settled})
        rows = [row for _mark, rows in current.values() for row in rows]
        return sorted(rows, key=lambda row: (row["uri"], row["platform"], row["image"] or ""))

    def count(self) -> int:
        """How many documents there are."""
        return len(self._scan())

    def owner(self, path: str) -> Document | None:
        """The image that a file belongs to, looked for in all documents."""
        for document in self.documents():
            if document.file(path):
                return document
        return None

    def _scan(self) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(self._documents) as entries:
                found = [entry for entry in entries if entry.name.endswith(_SUFFIX) and not entry.name.startswith(".")]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise storage_error(error, self._documents) from error
        return sorted(found, key=lambda entry: entry.name)

    def _path(self, reference: Reference, platform: Platform) -> str:
        return os.path.join(self._documents, _file_name(reference, platform) + _SUFFIX)

    def _kept_rows(self) -> dict[str, Any]:
        try:
            with open(os.path.join(self.directory, _ROWS), encoding="utf-8") as stream:
                kept = json.load(stream)
            if kept["schema_version"] != SCHEMA_VERSION:
                return {}
            return {name: known for name, known in kept["rows"].items() if _is_kept(known)}
        except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
            return {}

    def _keep_rows(self, rows: dict[str, Any]) -> None:
        # Only a copy, and whoever reads facts need not be allowed to write.
        with suppress(StorageError, NoSpace), replacing(os.path.join(self.directory, _ROWS)) as stream:
            stream.write(_encode({"schema_version": SCHEMA_VERSION, "rows": rows}))


def _file_name(reference: Reference, platform: Platform) -> str:
    """A readable name without ``/`` and ``:``, one for each image; names that are too long end in a hash."""
    text = f"{reference.registry}/{reference.repository}"
    text += f"@{reference.digest}" if reference.digest else f"={reference.tag}"
    name = f"{text},{platform}".replace("/", "+").replace(":", "=")
    if len(name) > _MAX_FILE_NAME:
        name = f"{name[:120]},{hashlib.sha256(name.encode()).hexdigest()}"
    return name


def _encode(data: dict[str, Any], indent: int | None = None) -> bytes:
    """JSON in UTF-8; what UTF-8 cannot say (a path's undecodable byte, half a surrogate pair) is a JSON escape."""
    return json.dumps(data, indent=indent, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def _is_kept(known: Any) -> bool:
    """Whether an entry of the kept rows has their form: the document's mark and its rows."""
    return (
        isinstance(known, list)
        and len(known) == 2
        and isinstance(known[1], list)
        and all(isinstance(row, dict) and row.keys() >= _USED_KEYS for row in known[1])
    )


def _unreadable(path: str, error: OSError) -> InventoryError:
    return InventoryError(
        f"cannot read the inventory document {path}: {error.strerror}; "
        "let this user read it, or remove it and pull or record the image again"
    )


def _load(path: str) -> Document | None:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as stream:
            data = json.load(stream)
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
        return Document(
            reference=Reference(data["registry"], data["repository"], data["tag"] or None, _pinned(data)),
            platform=Platform.parse(data["platform"]),
            digest=data["digest"],
            manifest_digest=data["manifest_digest"],
            media_type=data["media_type"],
            layers=tuple(data["layers"]),
            size=data["size"],
            metrics=data["metrics"],
            created_at=data["created_at"],
            updated_at=data["updated_at"],
            files=tuple(File(**file) for file in data["files"]),
        )
    except (KeyError, TypeError, AttributeError, InvalidPlatform) as error:
        wrong = f"lacks {error}" if isinstance(error, KeyError) else f"misspells a part ({error})"
        raise InventoryError(
            f"the inventory document {path} {wrong}; restore it, or remove it and pull or record the image again"
        ) from error


def _pinned(data: dict[str, Any]) -> str | None:
    """The digest that is part of the name, if the name is by digest."""
    return data["uri"].partition("@")[2] or None
