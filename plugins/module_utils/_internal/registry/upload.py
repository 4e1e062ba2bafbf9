# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Content on its way into a registry: blobs, in pieces where they are large, and the manifests that name them.

Source: OCI distribution specification 1.1, "Push".
"""

from __future__ import annotations

import re
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING
from urllib.parse import quote, urljoin, urlsplit

from ..errors import Denied, DigestMismatch, NotFound, RegistryError, StorageError, Unauthorized, Unreachable
from ..fs.digest import matches
from ..oci.descriptor import Descriptor
from ..oci.manifest import manifest_digest
from ..oci.reference import Reference, is_digest
from ..text import shown
from ..transport.http import MAX_DELAY, RETRIED, retry_delay
from ..transport.response import content_length
from ..transport.token import Scope
from ..transport.token_retry import RegistryRequest
from ..transport.url import is_web_address, redacted
from .client import Registry, manifest_path

if TYPE_CHECKING:
    import requests

THERE, MOUNTED, SENT = "there", "mounted", "sent"

_PIECE = 16 * 2**20  # bytes; proxies have limits, and what breaks off is sent again
_SMALLEST_PIECE = 2**20  # bytes; what a proxy of usual settings takes
_LARGEST_PIECE = 128 * 2**20  # bytes, since one is in memory; a registry that wants more at once is not served
_NEW_BEGINNINGS = 3
_BREAKS = 3  # without a byte of progress
_MAX_BREAKS = 100  # of one beginning, and one more for each _SMALLEST_PIECE: some progress may be a lie
_GONE = (400, 404, 416)  # an upload that the registry has given up, or whose state it does not know any more
_ABSENT = (400, 403, 404, 405, 406, 501)  # what a HEAD of a blob gets that is not there, or where none is allowed
_TOO_LARGE, _UNFIT = 413, 416
_NAMINGS, _UNKNOWN = 3, (400, 404)  # for a moment, distribution knows no blob that somebody else pushes as well
_LATE = (0, 504)  # no answer, neither to us nor to a proxy
_CLOSING = (0.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0)  # seconds between looks for what a registry is about to keep
_BYTES = "application/octet-stream"


def has_blob(registry: Registry, repository: str, blob: Descriptor) -> bool:
    """Tell whether a repository has a blob already, with one HEAD. Where that is refused, it is taken for missing: it
    can be sent all the same.

    :raises RegistryError: if the registry does not say.
    """
    what = f"the blob {blob.digest} of {registry.host}/{repository}"
    path = f"{repository}/blobs/{blob.digest}"
    request = RegistryRequest("HEAD", path, Scope(repository, writes=True), what, also=_ABSENT)
    with registry.send(request) as response:
        return response.status_code == 200 and content_length(response) in (None, blob.size)


def put_blob(
    registry: Registry, repository: str, blob: Descriptor, stream: IO[bytes], mount_from: str | None = None
) -> str:
    """Make sure that a repository has a blob, with as little traffic as possible.

    A large one is sent in pieces. When a connection breaks the registry is asked how far it came, and the rest is sent;
    if it does not know, all begins anew.

    :param blob: digest and size in bytes.
    :param stream: its content, which can be read more than once.
    :param mount_from: another repository of this registry that has the blob, from which it can be mounted.
    :returns: ``there``, ``mounted`` or ``sent``.
    :raises DigestMismatch: if the content is not that of the digest.
    :raises RegistryError: one of its kinds, if the registry does not take it.
    """
    if has_blob(registry, repository, blob):
        return THERE
    return _Upload(registry, repository, blob, stream, mount_from).run()


def put_manifest(registry: Registry, reference: Reference, media_type: str, content: bytes) -> str:
    """Give a manifest its name. All blobs of it must be there.

    :returns: its digest.
    :raises RegistryError: one of its kinds, if the registry does not take it.
    """
    digest = manifest_digest(content)
    path = manifest_path(reference)
    scope = Scope(reference.repository, writes=True)
    headers = {"Content-Type": media_type}
    stored = digest
    for attempt in range(1, _NAMINGS + 1):
        also = _UNKNOWN if attempt < _NAMINGS else ()
        request = RegistryRequest("PUT", path, scope, str(reference), headers, also, body=content)
        with registry.send(request) as response:
            if response.status_code < 300:
                header = response.headers.get("Docker-Content-Digest", "")
                stored = header if is_digest(header) else digest
                break
        time.sleep(retry_delay(attempt, None))
    if stored != digest:
        raise DigestMismatch(
            f"digest mismatch: {registry.host} stored the manifest of {reference} as {shown(stored)}, not {digest}; a "
            "proxy may change it"
        )
    return digest


class _UploadGone(Exception):
    """An upload that has to begin anew, and why."""


class _PieceTooLarge(Exception):
    """A piece that was too large, and what the registry said of it."""


class _PieceFailed(Exception):
    """A piece that did not get through, or not whole; ``retry_after`` is what the registry asks for."""

    def __init__(self, why: str, retry_after: str | None = None) -> None:
        super().__init__(why)
        self.retry_after = retry_after


@dataclass
class _Upload:
    """One blob on its way."""

    registry: Registry
    repository: str
    blob: Descriptor
    stream: IO[bytes]
    mount_from: str | None
    piece: int = 0
    least: int = 0

    def __post_init__(self) -> None:
        self.piece = self.piece or _PIECE
        self._what = f"the blob {self.blob.digest} of {self.registry.host}/{self.repository}"
        self._size = self.blob.size or 0

    @property
    def _scope(self) -> Scope:
        return Scope(self.repository, writes=True, mount_from=self.mount_from or "")

    def run(self) -> str:
        """Mount or send it: in pieces, and, if that leads nowhere, as a whole, as Apptainer does."""
        location = self._mount() if self.mount_from else self._begin()
        losses = 0
        while location is not None:
            try:
                if losses < _NEW_BEGINNINGS:
                    self._send(location)
                else:
                    self._finish(location, self.stream)
                return SENT
            except _PieceTooLarge as refusal:
                self._shrink(str(refusal), whole=losses == _NEW_BEGINNINGS)
            except _UploadGone as loss:
                losses += 1
                if losses > _NEW_BEGINNINGS:
                    raise RegistryError(
                        f"{self.registry.host} did not take {self._what}, which was sent from its beginning {losses} "
                        f"times: {loss}; ask whoever runs the registry, or a proxy before it"
                    ) from loss
                time.sleep(retry_delay(losses, None))
            location = self._begin()
        return MOUNTED

    def _mount(self) -> str | None:
        """Mount it, or return where to send it: who may not read ``mount_from`` can send it all the same."""
        query = f"?mount={quote(self.blob.digest)}&from={quote(self.mount_from or '', safe='')}"
        try:
            return self._begin(query)
        except (Unauthorized, Denied, NotFound):
            self.mount_from = None
            return self._begin()

    def _begin(self, query: str = "") -> str | None:
        path = f"{self.repository}/blobs/uploads/{query}"
        with self.registry.send(RegistryRequest("POST", path, self._scope, self._what, body=b"")) as response:
            if query and response.status_code == 201:
                return None
            least = response.headers.get("OCI-Chunk-Min-Length", "")
            self.least = int(least) if least.isascii() and least.isdigit() and len(least) < 12 else 0
            if self.least > _LARGEST_PIECE:
                raise RegistryError(f"{self.registry.host} takes {self._what} only in pieces of {self.least} bytes")
            return self._next(response)

    def _send(self, location: str) -> None:
        """Send all of it, in pieces.

        :raises _UploadGone: if it has to begin anew.
        :raises _PieceTooLarge: if it has to do so with smaller pieces.
        """
        if self._size <= max(self.piece, self.least):
            self._finish(location, self._read(0))
            return
        position, furthest, breaks, left = 0, 0, 0, _MAX_BREAKS + self._size // _SMALLEST_PIECE
        while position < self._size:
            data = self._read(position)
            try:
                location, position = self._patch(location, position, data), position + len(data)
            except _PieceFailed as trouble:
                location, position = self._resumed(location, trouble)
                breaks, left = 0 if position > furthest else breaks + 1, left - 1
                if breaks >= _BREAKS or not left:
                    raise _UploadGone(f"it breaks off again and again after {furthest} bytes ({trouble})") from trouble
                if breaks:  # some end a connection when they are sent too much
                    self.piece = max(self.piece // 4, min(self.piece, _SMALLEST_PIECE))
                    self._wait(breaks, trouble)
            furthest = max(furthest, position)
        self._finish(location, b"")

    def _wait(self, breaks: int, trouble: _PieceFailed) -> None:
        seconds = retry_delay(breaks, trouble.retry_after)
        if seconds > MAX_DELAY:
            raise RegistryError(
                f"{self.registry.host} wants to be left alone for {min(seconds, 1e9):.0f} seconds while it is sent "
                f"{self._what} ({trouble}); push it again after that"
            ) from trouble
        time.sleep(seconds)

    def _read(self, position: int) -> bytes:
        try:
            self.stream.seek(position)
            data = self.stream.read(min(max(self.piece, self.least), self._size - position))
        except OSError as error:
            raise StorageError(f"cannot read the content of {self._what}: {error.strerror or error}") from error
        if not data and position < self._size:
            raise DigestMismatch(f"{self._what} became shorter while it was pushed; push it again")
        return data

    def _patch(self, location: str, position: int, data: bytes) -> str:
        """Send one piece; returns where to send the next one.

        What the answer says in ``Range`` is not looked at: that of Amazon's ECR stays behind.

        :raises _PieceFailed: if it is to be asked how far it came.
        :raises _PieceTooLarge: if it wants smaller pieces.
        """
        headers = {"Content-Type": _BYTES, "Content-Range": f"{position}-{position + len(data) - 1}"}
        also = (*_GONE, *RETRIED, _TOO_LARGE)
        try:
            # once: a registry may append what it is sent twice
            with self.registry.send(
                RegistryRequest("PATCH", location, self._scope, self._what, headers, also, body=data, once=True)
            ) as response:
                status = response.status_code
                if status < 300:
                    return self._next(response, location)
                # GitHub's says 416 of more than 4 MiB
                if status == _TOO_LARGE or (status == _UNFIT and not position and self._can_shrink):
                    raise _PieceTooLarge(f"status {status}")
                retry_after = response.headers.get("Retry-After")
        except Unreachable as error:
            raise _PieceFailed(str(error)) from error
        raise _PieceFailed(f"status {status}", retry_after)

    @property
    def _can_shrink(self) -> bool:
        return self.piece // 4 >= max(_SMALLEST_PIECE, self.least)

    def _shrink(self, why: str, whole: bool) -> None:
        if whole or not self._can_shrink:
            much = "all of it" if whole else f"even {self.piece // 2**20} MiB"
            raise RegistryError(
                f"{self.registry.host} does not take {self._what}: {much} at once is too much ({why}); raise the limit "
                "of the proxy before it, such as nginx' client_max_body_size"
            )
        self.piece //= 4

    def _resumed(self, location: str, trouble: _PieceFailed) -> tuple[str, int]:
        """Ask how far it came: where to send the rest, and from which byte on.

        :raises _UploadGone: if the registry does not know it any more.
        """
        request = RegistryRequest("GET", location, self._scope, self._what, also=_GONE)
        with suppress(RegistryError), self.registry.send(request) as response:
            if response.status_code < 300:
                return self._next(response, location), min(_reached(response), self._size)
        raise _UploadGone(str(trouble)) from trouble

    def _finish(self, location: str, rest: bytes | IO[bytes]) -> None:
        """Have the registry compare the digest, and keep the blob.

        :param rest: what was not sent yet: nothing, all of a small blob, or the stream for all of any.
        :raises _UploadGone: if the upload is gone.
        :raises _PieceTooLarge: if the rest has to be sent in smaller pieces.
        """
        closing = f"{location}{'&' if urlsplit(location).query else '?'}digest={quote(self.blob.digest)}"
        headers, also = {"Content-Type": _BYTES}, (*_GONE, *RETRIED, _TOO_LARGE)
        try:
            with self.registry.send(
                RegistryRequest("PUT", closing, self._scope, self._what, headers, also, body=rest, once=True)
            ) as response:
                status = response.status_code
                if status < 300:
                    return
                if status == _TOO_LARGE and rest:
                    raise _PieceTooLarge(f"status {status}")
                why = f"status {status} at its end"
        except Unreachable as error:
            status, why = 0, str(error)
        # The answer may be lost, or a large blob take its time: object stores copy it now
        if self._is_kept(patiently=status in _LATE and (rest is self.stream or not rest)):
            return
        self._prove()
        raise _UploadGone(why)

    def _is_kept(self, patiently: bool) -> bool:
        for seconds in _CLOSING if patiently else _CLOSING[:1]:
            time.sleep(seconds)
            if has_blob(self.registry, self.repository, self.blob):
                return True
        return False

    def _prove(self) -> None:
        """Tell content that changed from a registry in trouble."""
        self.stream.seek(0)
        if not matches(self.stream, self.blob.digest):
            raise DigestMismatch(f"digest mismatch: the content of {self._what} is another one; push it again")

    def _next(self, response: requests.Response, known: str = "") -> str:
        """Return where the registry wants what follows.

        :param known: where it was, for answers that need not say.
        """
        location = response.headers.get("Location", "") or known
        if not location or not is_web_address(location, response.url):
            raise RegistryError(
                f"{self.registry.host} does not say where to send {self._what} ({redacted(location)!r})"
            )
        url = urljoin(response.url, location)
        if response.url.startswith("https:") and not url.startswith("https:"):
            raise RegistryError(
                f"{self.registry.host} wants {self._what} sent to {redacted(url)}, without TLS; whoever runs it must "
                "tell the registry its address (http.host), or have the proxy before it set X-Forwarded-Proto"
            )
        return url


def _reached(response: requests.Response) -> int:
    """Return how many bytes a registry has, from its ``Range``; 0 if it does not say: some write ``0-0`` then."""
    match = re.fullmatch(r"(?:bytes=)?0-(\d{1,18})", response.headers.get("Range", ""))
    return int(match.group(1)) + 1 if match and int(match.group(1)) else 0
