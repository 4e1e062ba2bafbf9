# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Content on its way into a registry: blobs, in pieces where they are large, and the manifests that name them.

Source: OCI distribution specification 1.1, "Push".
"""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING
from urllib.parse import quote, urljoin, urlsplit

from .address import is_web_address, place
from .errors import DigestMismatch, RegistryError, StorageError, Unreachable
from .manifest import Descriptor
from .reference import Reference, shown
from .registry import Registry
from .response import content_length
from .tokens import Scope

if TYPE_CHECKING:
    import requests

THERE, MOUNTED, SENT = "there", "mounted", "sent"

_PIECE = 16 * 2**20  # bytes in memory at a time; proxies have limits, and what breaks off is sent again
_SMALLEST_PIECE = 2**20  # bytes; what a proxy of usual settings takes
_LARGEST_PIECE = 128 * 2**20  # bytes; a registry that wants more at once is not served
_NEW_BEGINNINGS = 3
_BREAKS = 3  # without a byte of progress
_GONE = (400, 404, 416)  # an upload that the registry has given up, or whose state it does not know any more
_BUSY = (408, 429, 500, 502, 503, 504)
_TOO_LARGE = 413
_BYTES = "application/octet-stream"


def holds(registry: Registry, repository: str, blob: Descriptor) -> bool:
    """Whether a repository has a blob already, with one HEAD.

    :raises RegistryError: if the registry does not say.
    """
    what = f"the blob {blob.digest} of {registry.host}/{repository}"
    path = f"{repository}/blobs/{blob.digest}"
    with registry.request("HEAD", path, Scope(repository, writes=True), {}, what, (404,)) as response:
        return response.status_code == 200 and content_length(response) in (None, blob.size)


def put_blob(
    registry: Registry, repository: str, blob: Descriptor, stream: IO[bytes], lender: str | None = None
) -> str:
    """Make sure that a repository has a blob, with as little traffic as possible.

    A large one is sent in pieces. When a connection breaks the registry is asked how far it came, and the rest is sent;
    if it does not know, all begins anew.

    :param blob: digest and size in bytes.
    :param stream: its content, which can be read more than once.
    :param lender: another repository of this registry that has the blob, from which it can be mounted.
    :returns: ``there``, ``mounted`` or ``sent``.
    :raises DigestMismatch: if the content is not that of the digest.
    :raises RegistryError: one of its kinds, if the registry does not take it.
    """
    if holds(registry, repository, blob):
        return THERE
    return _Upload(registry, repository, blob, stream, lender).run()


def put_manifest(registry: Registry, reference: Reference, media_type: str, content: bytes) -> str:
    """Give a manifest its name. All blobs of it must be there.

    :returns: its digest.
    :raises RegistryError: one of its kinds, if the registry does not take it.
    """
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    path = f"{reference.repository}/manifests/{quote(reference.selector, safe=':')}"
    scope = Scope(reference.repository, writes=True)
    headers = {"Content-Type": media_type}
    with registry.request("PUT", path, scope, headers, str(reference), body=content) as response:
        stored = response.headers.get("Docker-Content-Digest") or digest
    if stored != digest:
        raise DigestMismatch(
            f"digest mismatch: {registry.host} stored the manifest of {reference} as {shown(stored)}, not {digest}; a "
            "proxy may change it"
        )
    return digest


class _Lost(Exception):
    """An upload that has to begin anew, and why."""


@dataclass
class _Upload:
    """One blob on its way."""

    registry: Registry
    repository: str
    blob: Descriptor
    stream: IO[bytes]
    lender: str | None
    piece: int = _PIECE
    least: int = 0

    def __post_init__(self) -> None:
        self._scope = Scope(self.repository, writes=True, lender=self.lender or "")
        self._what = f"the blob {self.blob.digest} of {self.registry.host}/{self.repository}"
        self._size = self.blob.size or 0

    def run(self) -> str:
        """Mount or send it."""
        for beginning in range(_NEW_BEGINNINGS + 1):
            location = self._begin(mount=beginning == 0)
            if location is None:
                return MOUNTED
            try:
                self._send(location)
                return SENT
            except _Lost as loss:
                why = str(loss)
        raise RegistryError(
            f"{self.registry.host} did not take {self._what}, which was sent from its beginning "
            f"{_NEW_BEGINNINGS + 1} times: {why}; ask whoever runs the registry, or a proxy before it"
        )

    def _begin(self, mount: bool) -> str | None:
        """Where to send it; None if it was mounted."""
        path = f"{self.repository}/blobs/uploads/"
        if mount and self.lender:
            path += f"?mount={quote(self.blob.digest)}&from={quote(self.lender, safe='')}"
        with self.registry.request("POST", path, self._scope, {}, self._what, body=b"") as response:
            if response.status_code == 201:
                return None
            least = response.headers.get("OCI-Chunk-Min-Length", "")
            self.least = int(least) if least.isascii() and least.isdigit() and len(least) < 12 else 0
            if self.least > _LARGEST_PIECE:
                raise RegistryError(f"{self.registry.host} takes {self._what} only in pieces of {self.least} bytes")
            return self._next(response)

    def _send(self, location: str) -> None:
        """All of it.

        :raises _Lost: if it has to begin anew.
        """
        position, broken = 0, 0
        while self._size > max(self.piece, self.least):
            data = self._read(position)
            if not data:
                break
            try:
                location, reached = self._patch(location, position, data)
            except _Broken as trouble:
                location, reached = self._resumed(location, trouble)
            broken = 0 if reached > position else broken + 1
            if broken >= _BREAKS:
                raise _Lost(f"it breaks off again and again after {position} bytes")
            position = reached
        self._finish(location, b"" if position else self._read(0))

    def _read(self, position: int) -> bytes:
        try:
            self.stream.seek(position)
            data = self.stream.read(min(max(self.piece, self.least), self._size - position))
        except OSError as error:
            raise StorageError(f"cannot read the content of {self._what}: {error.strerror or error}") from error
        if not data and position < self._size:
            raise DigestMismatch(f"{self._what} became shorter while it was pushed; push it again")
        return data

    def _patch(self, location: str, position: int, data: bytes) -> tuple[str, int]:
        """Send one piece; returns where to send the next one, and how many bytes the registry has.

        :raises _Broken: if it is to be asked how far it came.
        :raises _Lost: if it does not know the upload any more, or wants smaller pieces.
        """
        headers = {"Content-Type": _BYTES, "Content-Range": f"{position}-{position + len(data) - 1}"}
        also = (*_GONE, *_BUSY, _TOO_LARGE)
        try:
            # once: a registry may append what it is sent twice
            with self.registry.request(
                "PATCH", location, self._scope, headers, self._what, also, body=data, once=True
            ) as response:
                if response.status_code < 300:
                    return self._next(response), _reached(response) or position + len(data)
                self._refuse_large(response)
                why = f"status {response.status_code}"
        except Unreachable as error:
            raise _Broken(str(error)) from error
        raise _Broken(why)

    def _refuse_large(self, response: requests.Response) -> None:
        if response.status_code != _TOO_LARGE:
            return
        if self.piece // 4 < max(_SMALLEST_PIECE, self.least):
            raise RegistryError(
                f"{self.registry.host} does not take {self._what}: even {self.piece // 2**20} MiB at once is too much "
                "(status 413); raise the limit of the proxy before it, such as nginx' client_max_body_size"
            )
        self.piece //= 4
        raise _Lost("status 413")

    def _resumed(self, location: str, trouble: _Broken) -> tuple[str, int]:
        """Ask how far it came: where to send the rest, and from which byte on.

        :raises _Lost: if the registry does not know it any more.
        """
        asked = self.registry.request("GET", location, self._scope, {}, self._what, _GONE)
        with suppress(RegistryError), asked as response:
            if response.status_code < 300:
                return self._next(response, location), _reached(response)
        raise _Lost(str(trouble)) from trouble

    def _finish(self, location: str, rest: bytes) -> None:
        """Have the registry compare the digest, and keep the blob.

        :raises _Lost: if the upload is gone.
        """
        closing = f"{location}{'&' if urlsplit(location).query else '?'}digest={quote(self.blob.digest)}"
        headers = {"Content-Type": _BYTES}
        with self.registry.request(
            "PUT", closing, self._scope, headers, self._what, (*_GONE, _TOO_LARGE), body=rest
        ) as response:
            status = response.status_code
            if status < 300:
                return
            if rest:
                self._refuse_large(response)
        if holds(self.registry, self.repository, self.blob):
            return  # the answer to the first try was lost
        self._prove()
        raise _Lost(f"status {status} at its end")

    def _prove(self) -> None:
        """Tell content that changed from a registry in trouble."""
        self.stream.seek(0)
        hasher = hashlib.new(self.blob.digest.partition(":")[0])
        while True:
            piece = self.stream.read(2**20)
            if not piece:
                break
            hasher.update(piece)
        if hasher.hexdigest() != self.blob.digest.partition(":")[2]:
            raise DigestMismatch(f"digest mismatch: the content of {self._what} is another one; push it again")

    def _next(self, response: requests.Response, known: str = "") -> str:
        """Where the registry wants what follows.

        :param known: where it was, for answers that need not say.
        """
        location = response.headers.get("Location", "") or known
        url = urljoin(response.url, location)
        if not location or not is_web_address(url):
            raise RegistryError(f"{self.registry.host} does not say where to send {self._what} ({place(location)!r})")
        if response.url.startswith("https:") and not url.startswith("https:"):
            raise RegistryError(
                f"{self.registry.host} wants {self._what} sent to {place(url)}, without TLS; whoever runs it must tell "
                "the registry its address (http.host), or have the proxy before it set X-Forwarded-Proto"
            )
        return url


class _Broken(Exception):
    """A piece that did not get through, or not whole."""


def _reached(response: requests.Response) -> int:
    """How many bytes a registry has, from its ``Range``; 0 if it does not say. ``0-0`` is what some say of nothing."""
    match = re.fullmatch(r"(?:bytes=)?0-(\d{1,18})", response.headers.get("Range", ""))
    return int(match.group(1)) + 1 if match and int(match.group(1)) else 0
