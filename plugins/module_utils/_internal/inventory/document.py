# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The document of one image: what its name pointed at when it was last asked for, and its files on this host.

``docs/inventory.schema.json`` is the schema of the JSON that is stored.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import re
import time
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from ..fs import guard
from ..oci.platform import Platform
from ..oci.reference import DOCKER, Reference
from . import storage

SCHEMA_VERSION = 1
SREGISTRY = "sregistry"  # the key of what sregistry's own database said, among the metrics
CLIENT = "dockerhub"  # sregistry's name for its client of all Docker and OCI registries
CLIENT_ORAS, CLIENT_WEB = "oras", "web"  # of finished files
CLIENT_LOCAL = "local"  # of images that come from no registry

VERIFIED = "verified"
"""Among the inputs of a file: the mark of the trust with which it was verified as it is."""

# What each part may be in JSON: whoever may write the inventory may have written anything.
_Kinds = frozenset[type]
_NULL: type = type(None)
_TEXT: _Kinds = frozenset({str})
_TEXT_OR_NULL: _Kinds = frozenset({str, _NULL})
_NUMBER: _Kinds = frozenset({int})
_NUMBER_OR_NULL: _Kinds = frozenset({int, _NULL})
_OBJECT: _Kinds = frozenset({dict})
_ARRAY: _Kinds = frozenset({list})
_PARTS: tuple[tuple[str, _Kinds], ...] = (
    *((name, _TEXT) for name in ("registry", "repository", "tag", "uri", "url", "client", "platform")),
    *((name, _TEXT) for name in ("created_at", "updated_at")),
    *((name, _TEXT_OR_NULL) for name in ("digest", "manifest_digest", "media_type")),
    ("size", _NUMBER_OR_NULL),
    ("layers", _ARRAY),
    ("files", _ARRAY),
    ("metrics", _OBJECT),
)
_FILE_PARTS: tuple[tuple[str, _Kinds], ...] = (
    *((name, _TEXT) for name in ("path", "sha256", "created_at")),
    *((name, _TEXT_OR_NULL) for name in ("manifest_digest", "engine_version", "packer", "builder")),
    ("size", _NUMBER),
    ("mtime_ns", _NUMBER),
    ("inputs", _OBJECT),
)
_TIMES = frozenset({"created_at", "updated_at"})
_TIME = re.compile(r"\d{4}-\d\d-\d\dT([01]\d|2[0-3]):[0-5]\d:[0-5]\dZ\Z", re.ASCII)
_LARGEST = 2**53  # bytes of a file; what reads JSON elsewhere counts no further


def timestamp() -> str:
    """Return the time now, in UTC, as RFC 3339 writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


@dataclass(frozen=True)
class File:
    """An image file on this host: how it was made, and by what it is recognised (size in bytes, mtime in ns).

    ``manifest_digest`` is that of the image it was built from; None, like engine, packer and builder, where it was not
    built from one here. A sandbox has the size of all its files, and an empty ``sha256``.
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

    @classmethod
    def at(cls, path: str, sha256: str, inputs: dict[str, str]) -> File:
        """Return the file that is at a path now, with the size and time that it has; how it was made is not known."""
        status = os.stat(path)
        return cls(
            path=path,
            size=status.st_size,
            mtime_ns=status.st_mtime_ns,
            sha256=sha256,
            manifest_digest=None,
            inputs=inputs,
            engine_version=None,
            packer=None,
            builder=None,
            created_at=timestamp(),
        )

    @property
    def digest(self) -> str | None:
        """The digest of its content; None of a directory."""
        return f"sha256:{self.sha256}" if self.sha256 else None

    @property
    def unmarked_inputs(self) -> dict[str, str]:
        """Its inputs without the mark that it was verified, which is no part of how it came to be."""
        return {name: value for name, value in self.inputs.items() if name != VERIFIED}

    def state(self, checksum: bool = False) -> str:
        """Return whether it is still what was recorded, as ``storage.state`` tells it.

        :param checksum: read all of a file.
        :raises StorageError: if it cannot be looked at.
        """
        return storage.state(self.path, self.size, self.mtime_ns, self.sha256, checksum)


@dataclass(frozen=True)
class Document:
    """One image: what its name points at, and its files.

    ``client`` says, in sregistry's words, where it comes from. Of an image that comes from no registry the digests,
    ``media_type`` and ``size`` are None, and ``url`` is what is known of its origin, maybe nothing.
    ``word`` tells whose word it is, as ``guard.word_of`` does; what this run has found out is its own.
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
    word: int = field(default=guard.ROOT, compare=False)

    @classmethod
    def local(
        cls, reference: Reference, platform: Platform, *files: File, url: str = "", client: str = CLIENT_LOCAL
    ) -> Document:
        """Return the document, new now, of an image that comes from no registry."""
        now = timestamp()
        return cls(
            reference=reference,
            platform=platform,
            digest=None,
            manifest_digest=None,
            media_type=None,
            layers=(),
            size=None,
            metrics={},
            created_at=now,
            updated_at=now,
            files=files,
            client=client,
            url=url,
        )

    @property
    def key(self) -> tuple[Reference, Platform]:
        """The name and platform, which no other image has both."""
        return self.reference, self.platform

    def file(self, path: str) -> File | None:
        """Return the file at a path, if this image has one there."""
        return next((file for file in self.files if file.path == path), None)

    def with_file(self, file: File) -> Document:
        """Return this document with a file added, or put in place of the one at the same path."""
        others = tuple(other for other in self.files if other.path != file.path)
        return dataclasses.replace(self, files=(*others, file))

    def with_changed(self, file: File) -> Document:
        """Return this document with what is known by now of a file. It does not become the newest by that."""
        files = tuple(file if other.path == file.path else other for other in self.files)
        return dataclasses.replace(self, files=files)

    def without_file(self, path: str) -> Document:
        """Return this document without the file at a path."""
        return dataclasses.replace(self, files=tuple(file for file in self.files if file.path != path))

    @property
    def told(self) -> dict[str, Any]:
        """The documents of the registry or web server, without what was taken over from sregistry."""
        return {name: document for name, document in self.metrics.items() if name != SREGISTRY}

    @classmethod
    def of_json(cls, data: dict[str, Any], word: int = guard.ROOT) -> Document:
        """Return the document that was stored.

        :param word: whose word it is.
        :raises KeyError, TypeError, AttributeError, InvalidPlatform: if it is none.
        """
        _check(data, _PARTS)
        for layer in data["layers"]:
            _need("layers", layer, _OBJECT)
            _need("digest", layer["digest"], _TEXT)
        for name, part in data["metrics"].items():
            _need(name, part, _ARRAY if name == SREGISTRY else _OBJECT)
        reference = Reference(
            data["registry"], data["repository"], data["tag"] or None, _pinned(data["uri"]), _scheme(data["uri"])
        )
        return cls(
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
            files=tuple(_file_of(file) for file in data["files"]),
            word=word,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the document as it is stored; its first keys are those that ``sregistry inspect`` shows."""
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
        """Return the short form for facts: one row a file, or one with ``path`` null where there is none."""
        common = {
            "reference": self.reference.uri,
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
                "path": None,
                "sha256": "",
                "size": None,
                "mtime_ns": None,
                "built_from": None,
                "outdated": None,
            }
            return [{**common, **unbuilt, "created_at": self.created_at}]
        return [
            {
                **common,
                "path": file.path,
                "sha256": file.sha256,
                "size": file.size,
                "mtime_ns": file.mtime_ns,
                "created_at": file.created_at,
                "built_from": file.manifest_digest,
                "outdated": None if file.manifest_digest is None else file.manifest_digest != self.manifest_digest,
            }
            for file in self.files
        ]


def _check(data: dict[str, Any], parts: tuple[tuple[str, _Kinds], ...]) -> None:
    for name, kinds in parts:
        value = data[name]
        if value.__class__ not in kinds or (name in _TIMES and not is_time(value)):
            raise _misfit(name, value)
        if name == "size" and isinstance(value, int) and value < 0:
            raise _misfit(name, value)


@functools.lru_cache(maxsize=1024)
def is_time(text: str) -> bool:
    """Return whether a text is a time as ``timestamp`` gives it, of a day that there is; reports compare them."""
    try:
        return bool(_TIME.match(text) and date.fromisoformat(text[:10]))
    except ValueError:
        return False


def _need(name: str, value: object, kinds: _Kinds) -> None:
    if value.__class__ not in kinds:
        raise _misfit(name, value)


def _misfit(name: str, value: object) -> TypeError:
    return TypeError(f"{name} cannot be {value!r:.80}")


def _file_of(data: dict[str, Any]) -> File:
    """Return a file that was stored. One that names no builder is of a time when there was only one.

    :raises TypeError: if it is none.
    """
    file = File(**{"builder": "sandbox", **data})
    _check(vars(file), _FILE_PARTS)
    if file.size > _LARGEST:
        raise _misfit("size", file.size)
    if abs(file.mtime_ns) >= 2**63:
        raise _misfit("mtime_ns", file.mtime_ns)
    if file.sha256.strip("0123456789abcdef"):  # it names a blob of the cache
        raise _misfit("sha256", file.sha256)
    for value in file.inputs.values():
        _need("inputs", value, _TEXT)
    try:
        path = os.fsencode(file.path)
    except UnicodeEncodeError as error:  # half a surrogate pair
        raise _misfit("path", file.path) from error
    if not path.startswith(b"/") or b"\0" in path:
        raise _misfit("path", file.path)
    return file


def reference_of(row: dict[str, Any]) -> Reference:
    """Return the reference of a row of the short form, also of one that is in no registry."""
    repository = "/".join(filter(None, (row["collection"], row["name"])))
    return Reference(
        row["registry"], repository, row["tag"] or None, _pinned(row["reference"]), _scheme(row["reference"])
    )


def _pinned(uri: str) -> str | None:
    """Return the digest that is part of the name, if the name is by digest."""
    return uri.partition("@")[2] or None


def _scheme(uri: str) -> str:
    """Return the scheme that is part of the name, if it is not Docker's."""
    return uri.rpartition("://")[0] or DOCKER
