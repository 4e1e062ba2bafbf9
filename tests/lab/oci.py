# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images as data (layers, configs, manifests) and a small client that pushes them to a registry.

Formats: OCI image specification 1.1 (config.md, manifest.md, image-index.md, layer.md) and the Docker image
manifest version 2, schema 2; protocol: OCI distribution specification 1.1.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import json
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import quote, urlsplit

from tests.lab import commands
from tests.lab.registry import OWN_AGENT, REGISTRIES

CREATED = "2025-01-01T00:00:00Z"

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"
ALL_MANIFESTS = (OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST, SCHEMA1)

_ANY_MANIFEST = {"Accept": ", ".join(ALL_MANIFESTS)}


class RegistryRefused(Exception):
    """A registry answered with a status that was not expected."""


def digest_of(data: bytes) -> str:
    """Return the digest by which a registry names ``data``."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def to_json(document: Mapping[str, Any]) -> bytes:
    """Write ``document`` in a stable form."""
    return json.dumps(document, indent=3, ensure_ascii=False).encode()


@dataclass(frozen=True)
class Layer:
    """One layer: the blob as it is stored, its compression (``gzip``, ``zstd``, ``none``) and its tar's digest."""

    blob: bytes = field(repr=False)
    compression: str
    diff_id: str
    made_by: str = "lab"
    media_type: str | None = None

    @cached_property
    def digest(self) -> str:
        """The blob's digest."""
        return digest_of(self.blob)

    def descriptor(self, docker: bool) -> dict[str, Any]:
        """Return the manifest's entry for the layer."""
        kind = {"gzip": f"{OCI_LAYER}+gzip", "zstd": f"{OCI_LAYER}+zstd", "none": OCI_LAYER}[self.compression]
        media_type = self.media_type or (DOCKER_LAYER if docker else kind)
        return {"mediaType": media_type, "size": len(self.blob), "digest": self.digest}


def layer(tar: bytes, made_by: str = "lab", compression: str = "gzip", level: int = 6) -> Layer:
    """Return a layer of an uncompressed tar."""
    blob = tar
    if compression == "gzip":
        blob = gzip.compress(tar, level, mtime=0)
    elif compression == "zstd":
        blob = commands.output_of(["zstd", "-q", "-c", "-3", "--single-thread"], tar)
    return Layer(blob, compression, digest_of(tar), made_by)


@dataclass(frozen=True)
class Image:
    """An image for one platform.

    ``steps`` is its history: None stands for the next layer, a text for a step that made no layer.
    """

    layers: tuple[Layer, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    docker: bool = False
    architecture: str = "amd64"
    variant: str | None = None
    os: str = "linux"
    steps: tuple[str | None, ...] | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)

    def config(self) -> bytes:
        """Return the image's configuration."""
        document = {
            "architecture": self.architecture,
            **({"variant": self.variant} if self.variant else {}),
            "os": self.os,
            "created": CREATED,
            "author": "hpc.sregistry lab",
            "config": dict(self.settings),
            "rootfs": {"type": "layers", "diff_ids": [each.diff_id for each in self.layers]},
            "history": self._history(),
        }
        return to_json(document)

    def _history(self) -> list[dict[str, Any]]:
        layers = iter(self.layers)
        history: list[dict[str, Any]] = []
        for step in self.steps or (None,) * len(self.layers):
            if step is None:
                history.append({"created": CREATED, "created_by": next(layers).made_by})
            else:
                history.append({"created": CREATED, "created_by": step, "empty_layer": True})
        return history

    def manifest(self) -> bytes:
        """Return the image's manifest."""
        config = self.config()
        document: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": self.media_type,
            "config": {
                "mediaType": DOCKER_CONFIG if self.docker else OCI_CONFIG,
                "size": len(config),
                "digest": digest_of(config),
            },
            "layers": [each.descriptor(self.docker) for each in self.layers],
        }
        if self.annotations:
            document["annotations"] = dict(self.annotations)
        return to_json(document)

    @property
    def media_type(self) -> str:
        """The manifest's media type."""
        return DOCKER_MANIFEST if self.docker else OCI_MANIFEST

    @property
    def platform(self) -> dict[str, str]:
        """Return the index's entry for the platform."""
        platform = {"architecture": self.architecture, "os": self.os}
        return {**platform, "variant": self.variant} if self.variant else platform


@dataclass(frozen=True)
class Index:
    """Images or indexes for several platforms, each with its extra descriptor fields."""

    members: tuple[tuple[Image | Index, Mapping[str, Any]], ...]
    docker: bool = False

    @property
    def media_type(self) -> str:
        """The index's media type."""
        return DOCKER_LIST if self.docker else OCI_INDEX

    def manifest(self) -> bytes:
        """Return the index itself."""
        return to_json(
            {
                "schemaVersion": 2,
                "mediaType": self.media_type,
                "manifests": [_member(member, extra) for member, extra in self.members],
            }
        )


def index(*images: Image, docker: bool = False) -> Index:
    """Return an index of images, each under its own platform."""
    return Index(tuple((image, {"platform": image.platform}) for image in images), docker)


def _member(member: Image | Index, extra: Mapping[str, Any]) -> dict[str, Any]:
    manifest = member.manifest()
    return {"mediaType": member.media_type, "size": len(manifest), "digest": digest_of(manifest), **extra}


@dataclass(frozen=True)
class Reference:
    """``repository:tag`` or ``repository@digest`` in the lab's storage."""

    repository: str
    target: str

    def __str__(self) -> str:
        return f"{self.repository}{'@' if ':' in self.target else ':'}{self.target}"


def reference(text: str) -> Reference:
    """Read ``repository[:tag|@digest]``."""
    if "@" in text:
        repository, _separator, target = text.partition("@")
    else:
        repository, _separator, target = text.partition(":")
    return Reference(repository, target or "latest")


class Client:
    """A client of a registry, on one connection: of ``plain``, unless an address is given."""

    def __init__(self, address: str = REGISTRIES["plain"].address, context: ssl.SSLContext | None = None) -> None:
        """
        :param address: ``HOST:PORT``.
        :param context: for TLS; without, the registry speaks plain HTTP.
        """
        self._connection = (
            http.client.HTTPSConnection(address, timeout=300, context=context)
            if context
            else http.client.HTTPConnection(address, timeout=300)
        )
        self._stored: dict[str, str] = {}

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_error: object) -> None:
        self._connection.close()

    def push(self, name: str, thing: Image | Index) -> str:
        """Push an image or index with all it consists of under ``repository:tag``; return its digest."""
        where = reference(name)
        if isinstance(thing, Index):
            for member, _extra in thing.members:
                self.push(f"{where.repository}@{digest_of(member.manifest())}", member)
        else:
            for blob in [*(each.blob for each in thing.layers), thing.config()]:
                self.put_blob(where.repository, blob)
        return self.put_manifest(where, thing.manifest(), thing.media_type)

    def move(self, target: str, source: str) -> str:
        """Make ``target`` name what ``source`` names, mounting its blobs where needed; return its digest."""
        origin, where = reference(source), reference(target)
        body, media_type = self.manifest(origin)
        document = json.loads(body)
        for member in document.get("manifests", []):
            self.move(f"{where.repository}@{member['digest']}", f"{origin.repository}@{member['digest']}")
        for digest in _blobs(document):
            self.mount_blob(where.repository, digest, origin.repository)
        return self.put_manifest(where, body, media_type)

    def delete(self, name: str) -> None:
        """Delete the manifest that ``name`` names, and so each tag that names it."""
        where = reference(name)
        path = f"/v2/{where.repository}/manifests"
        response, _body = self._ask("HEAD", f"{path}/{where.target}", headers=_ANY_MANIFEST)
        self._ask("DELETE", f"{path}/{response.headers['Docker-Content-Digest']}", expect=(202,))

    def manifest(self, where: Reference, accept: Iterable[str] = ALL_MANIFESTS) -> tuple[bytes, str]:
        """Return the manifest's bytes and media type."""
        path = f"/v2/{where.repository}/manifests/{where.target}"
        response, body = self._ask("GET", path, headers={"Accept": ", ".join(accept)}, expect=(200,))
        return body, response.headers["Content-Type"]

    def put_manifest(self, where: Reference, body: bytes, media_type: str) -> str:
        """Store a manifest; return the digest by which the registry names it."""
        path = f"/v2/{where.repository}/manifests/{where.target}"
        response, _body = self._ask("PUT", path, body, {"Content-Type": media_type}, (201,))
        return response.headers["Docker-Content-Digest"]

    def put_blob(self, repository: str, blob: bytes) -> None:
        """Store a blob unless the repository has it; mount it when this client stored it elsewhere."""
        digest = digest_of(blob)
        origin = self._stored.setdefault(digest, repository)
        if self.has_blob(repository, digest):
            return
        if origin != repository:
            self.mount_blob(repository, digest, origin)
            return
        location = self._begin_upload(repository)
        path = f"{location}{'&' if '?' in location else '?'}digest={digest}"
        self._ask("PUT", path, blob, {"Content-Type": "application/octet-stream"}, (201,))

    def put_stream(self, repository: str, chunks: Iterable[bytes]) -> tuple[str, int]:
        """Store a blob that is made on the way; return its digest and size."""
        digest, size = hashlib.sha256(), 0

        def counted() -> Iterable[bytes]:
            nonlocal size
            for chunk in chunks:
                digest.update(chunk)
                size += len(chunk)
                yield chunk

        location = self._begin_upload(repository)
        headers = {"Content-Type": "application/octet-stream"}
        response, _body = self._ask("PATCH", location, counted(), headers, (202,))
        location = _path(response.headers["Location"])
        name = f"sha256:{digest.hexdigest()}"
        self._ask("PUT", f"{location}{'&' if '?' in location else '?'}digest={name}", b"", headers, (201,))
        return name, size

    def mount_blob(self, repository: str, digest: str, origin: str) -> None:
        """Give ``repository`` a blob that ``origin`` has."""
        path = f"/v2/{repository}/blobs/uploads/?mount={digest}&from={quote(origin, safe='')}"
        self._ask("POST", path, b"", expect=(201,))

    def has_blob(self, repository: str, digest: str) -> bool:
        """Tell whether the repository has the blob."""
        response, _body = self._ask("HEAD", f"/v2/{repository}/blobs/{digest}", expect=(200, 404))
        return response.status == 200

    def _begin_upload(self, repository: str) -> str:
        response, _body = self._ask("POST", f"/v2/{repository}/blobs/uploads/", b"", expect=(202,))
        return _path(response.headers["Location"])

    def _ask(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        expect: tuple[int, ...] = (200,),
    ) -> tuple[http.client.HTTPResponse, bytes]:
        chunked = body is not None and not isinstance(body, bytes)
        self._connection.request(
            method,
            path,
            body,
            {
                "User-Agent": OWN_AGENT,
                **({"Transfer-Encoding": "chunked"} if chunked else {}),
                **(headers or {}),
            },
            encode_chunked=chunked,
        )
        response = self._connection.getresponse()
        answer = response.read()
        if response.status not in expect:
            raise RegistryRefused(f"{method} {path}: {response.status} {answer[:500].decode(errors='replace')}")
        return response, answer


def _blobs(manifest: Mapping[str, Any]) -> list[str]:
    """Return the digests of the blobs that a manifest of any schema names, each once."""
    named = [each["digest"] for each in [manifest.get("config"), *manifest.get("layers", [])] if each]
    return list(dict.fromkeys([*named, *(each["blobSum"] for each in manifest.get("fsLayers", []))]))


def _path(location: str) -> str:
    parts = urlsplit(location)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path
