# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# pylint: disable=contextmanager-generator-missing-cleanup  # contextlib ends a suspended generator, and its blocks

"""The inventory: a directory of JSON documents, one for each image of each platform.

Reading or writing one document does not depend on how many there are.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from ..errors import InvalidPlatform, InventoryError, StorageError
from ..fs import guard
from ..fs.files import make_directory, nearest, need_writable, read_word, replacing, storage_error
from ..fs.lock import locked
from ..fs.tempdir import remove_stale
from ..oci.platform import Platform
from ..oci.reference import DOCKER, Reference
from .document import SCHEMA_VERSION, Document

SUBDIRECTORY = ".sregistry"
"""Where in a store its inventory is, unless somebody chose another place."""

LOCK_TIMEOUT = 600.0  # seconds; who holds a document only writes it
BUILD_TIMEOUT = 6 * 3600.0  # seconds that one run waits for another that makes the same file

_SUFFIX = ".json"
_MAX_FILE_NAME = 200
_MAX_DOCUMENT = 64 * 1024 * 1024  # bytes; no manifest and config that are accepted come near it


class Inventory:
    """A directory of documents."""

    def __init__(self, directory: str, store: str | None = None) -> None:
        """
        :param store: the directory that the files of the images are in; the one that this is in, if it is not given.
        """
        self.directory = directory
        self.store = os.path.dirname(directory) if store is None else store
        self._base = self.store if directory.startswith(os.path.join(self.store, "")) else directory
        self.images = os.path.join(directory, "images")
        self._locks = os.path.join(directory, "locks")

    @property
    def begun(self) -> bool:
        """True if anything was ever recorded here."""
        return os.path.isdir(self.images)

    def get(self, reference: Reference, platform: Platform) -> Document | None:
        """Return the document of an image of one platform; None if it was never recorded.

        :raises InventoryError: if there is one that cannot be read.
        """
        path = self.path_of(reference, platform)
        try:
            with guard.reached(self.images, self._base) as place:
                document = _load(path, place)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unreadable(path, error) from error
        if document and document.key != (reference, platform):
            raise _misplaced(path, document)
        return document

    def put(self, document: Document) -> None:
        """Write a document, in place of the one that the same image has.

        :raises StorageError, NoSpace: if it cannot be written; the old one is then as before.
        :raises InventoryError: if the registry's documents nest too deep to be written.
        """
        path = self.path_of(document.reference, document.platform)
        make_directory(self.images, base=self._base)
        try:
            content = _encode(document.to_json())
        except RecursionError as error:
            raise InventoryError(f"the manifest or config of {document.reference} nests too deep to be kept") from error
        with guard.reached(self.images, self._base) as place:
            held = os.path.join(place, os.path.basename(path))
            with replacing(held, sweep=False) as stream:
                stream.write(content)

    def remove(self, reference: Reference, platform: Platform) -> None:
        """Forget an image of one platform; nothing happens where it is not known.

        :raises StorageError: if its document cannot be removed.
        """
        path = self.path_of(reference, platform)
        try:
            with guard.reached(self.images, self._base) as place:
                os.unlink(os.path.join(place, os.path.basename(path)))
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
        make_directory(self._locks, base=self._base)
        with locked(os.path.join(self._locks, name + ".lock"), timeout):
            yield

    def documents(self) -> Iterator[Document]:
        """Yield all documents, in the order of their file names.

        :raises InventoryError: at the first that cannot be read, or has the name of another one. To pass it over would
            be to take its files for nobody's.
        """
        with self._listed() as (place, names):
            for name in names:
                path = os.path.join(self.images, name)
                document = _load(path, place)
                if document and name != _file_name(*document.key) + _SUFFIX:
                    raise _misplaced(path, document)
                if document:
                    yield document

    def rows(self) -> list[dict[str, Any]]:
        """Return the whole inventory in short form, by name.

        :raises InventoryError: if a document cannot be read.
        """
        rows = [row for document in self.documents() for row in document.rows()]
        return sorted(rows, key=lambda row: (row["reference"], row["platform"], row["path"] or ""))

    def count(self) -> int:
        """Return the number of documents."""
        with self._listed() as (_place, names):
            return len(names)

    def owners(self, path: str, besides: tuple[Reference, Platform] | None = None) -> list[Document]:
        """Return the images that have a file at a path, looked for in all documents.

        :param besides: an image that does not count.
        """
        return [document for document in self.documents() if document.key != besides and document.file(path)]

    def tidy(self) -> None:
        """Remove what killed runs left of documents that they wrote."""
        remove_stale(self.images, self._base)

    def need_writable(self) -> None:
        """Refuse early where no document could be changed, nor a lock be had for it.

        :raises StorageError: naming the directory.
        """
        self.need_way()
        need_writable(self.images)
        need_writable(self._locks)

    def need_way(self) -> None:
        """Refuse early where another user's symlink leads to documents or locks.

        :raises StorageError: naming it.
        """
        for directory in (self.images, self._locks):
            guard.need_way(os.path.join(directory, "any"), self._base)

    @contextmanager
    def _listed(self) -> Iterator[tuple[str, list[str]]]:
        """Hold the directory of the documents for a block; yield it and their names there, in order."""
        with ExitStack() as stack:
            place, names = self.images, []
            try:
                place = stack.enter_context(guard.reached(self.images, self._base))
                names = sorted(name for name in os.listdir(place) if _is_document(name))
            except FileNotFoundError:
                pass
            except OSError as error:
                raise storage_error(error, self.images) from error
            yield place, names

    def path_of(self, reference: Reference, platform: Platform) -> str:
        """Return the path of the document that an image has, or would have."""
        return os.path.join(self.images, _file_name(reference, platform) + _SUFFIX)


def taken(path: str, owner: Document, way_out: str) -> StorageError:
    """Return the error of who would have the path that another image's file has."""
    return StorageError(f"{path} is the file of {owner.reference} for {owner.platform}; {way_out}")


def _misplaced(path: str, document: Document) -> InventoryError:
    name = _file_name(*document.key) + _SUFFIX
    return InventoryError(
        f"the inventory document {path} is that of {document.reference} for {document.platform}; it was moved, copied "
        f"or tampered with; remove it, or give it its own name {name} if there is none of that name"
    )


def _is_document(name: str) -> bool:
    return name.endswith(_SUFFIX) and not name.startswith(".")


def _file_name(reference: Reference, platform: Platform) -> str:
    """Return a readable name without ``/`` and ``:``, one for each image; a name that is too long ends in a hash."""
    text = "" if reference.scheme == DOCKER else f"{reference.scheme}://"
    text += f"{reference.registry}/{reference.repository}"
    text += f"@{reference.digest}" if reference.digest else f"={reference.tag}" if reference.tag else ""
    name = f"{text},{platform}".replace("/", "+").replace(":", "=")
    if len(name) > _MAX_FILE_NAME:
        name = f"{name[:120]},{hashlib.sha256(name.encode()).hexdigest()}"
    return name


def _encode(data: dict[str, Any]) -> bytes:
    """Return JSON in UTF-8. What UTF-8 cannot say, as an undecodable byte of a path, is a JSON escape."""
    return json.dumps(data, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def _unreadable(path: str, error: OSError) -> InventoryError:
    if error.errno == errno.ELOOP:
        return InventoryError(
            f"cannot read the inventory document {path}: it is a symlink, which is not followed; put the document "
            "itself there, or remove the link"
        )
    if error.errno == errno.ENOTDIR:
        return InventoryError(
            f"cannot use {nearest(path)}: {error.strerror}; it was to hold {path}, so give another storage or database"
        )
    return InventoryError(
        f"cannot read the inventory document {path}: {error.strerror}; "
        "let this user read it, or remove it and pull or record the image again"
    )


def _load(path: str, place: str) -> Document | None:
    """Return the document of a path, read from its directory as that is held."""
    try:
        content, word = read_word(os.path.join(place, os.path.basename(path)), _MAX_DOCUMENT)
        data = json.loads(content.decode("utf-8", "surrogateescape"))
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
        return Document.of_json(data, word)
    except (KeyError, TypeError, AttributeError, InvalidPlatform) as error:
        wrong = f"lacks {error}" if isinstance(error, KeyError) else f"has a wrong value ({error})"
        raise InventoryError(
            f"the inventory document {path} {wrong}; restore it, or remove it and pull or record the image again"
        ) from error
