# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# pylint: disable=contextmanager-generator-missing-cleanup  # contextlib ends a suspended generator, and its blocks

"""A finished SIF file on a web server, which ``https://`` names.

The version of a file is known from the server's validators, ``ETag`` and ``Last-Modified`` (RFC 9110, section 8.8),
and by its size; its digest is known only from the name, or after it was fetched.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import CredentialsError, Denied, NotFound, RateLimited, RegistryError, Unauthorized, Unreachable
from ..oci.descriptor import Descriptor
from ..oci.reference import Reference
from ..text import shown
from ..transport.connection_error import was_connected
from ..transport.error_response import ErrorResponse
from ..transport.http import RETRIED, Connections, HttpRequest
from ..transport.keychain import Keychain, Login
from ..transport.options import Transport
from ..transport.response import RANGE_REFUSED, data_from, drain, media_type, part
from ..transport.url import host_of, origin

if TYPE_CHECKING:
    import requests

_PAGES = frozenset({"text/html", "application/xhtml+xml"})


@dataclass(frozen=True)
class Download:
    """A file on a web server, not fetched yet.

    ``validators`` are those that the server told: etag, last_modified, and size in bytes. ``digest`` is that of the
    name, None where it has none.
    """

    reference: Reference
    media_type: str
    validators: dict[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str | None:
        """The digest that the file must have."""
        return self.reference.digest

    @property
    def manifest_digest(self) -> str | None:
        """The digest of the file, since there is no manifest."""
        return self.reference.digest

    @property
    def layers(self) -> tuple[Descriptor, ...]:
        """Empty: there is no manifest that would name them."""
        return ()

    @property
    def size(self) -> int | None:
        """Bytes of the file, where the server tells."""
        return self.validators.get("size")

    @property
    def documents(self) -> dict[str, Any]:
        """The validators, in the place of a registry's documents."""
        return {"web": self.validators}

    @property
    def doubtful(self) -> bool:
        """True if a file of the same size under the same address may be another one."""
        return not (self.validators.get("etag") or self.validators.get("last_modified"))


class Web:
    """The session with all web servers."""

    def __init__(self, keychain: Keychain, transport: Transport) -> None:
        self._keychain = keychain
        self._connections = Connections(transport)
        self._transport = transport
        self._lock = threading.Lock()
        self._guarded: set[str] = set()

    def close(self) -> None:
        """Give the connections back."""
        self._connections.close()

    def head(self, reference: Reference) -> Download:
        """Ask with one HEAD what stands under an address. That is only the cheaper question: where it is refused, a GET
        decides, and something new has to be confirmed with ``probe``.

        :raises RegistryError: one of its kinds, naming address and status; also for what is a page for people.
        """
        waited = False
        try:
            with self._request("HEAD", reference, {}) as response:
                download = _download(reference, response)
            if download.media_type not in _PAGES:
                return download
        except RegistryError as error:
            if error.status is None:
                raise
            waited = error.status in (0, *RETRIED)
        return self.probe(reference, waited)

    def probe(self, reference: Reference, once: bool = False) -> Download:
        """Ask what stands under an address with a GET of one byte, since some servers answer a HEAD with nonsense.

        :param once: do not try again.
        :raises RegistryError: as ``head``.
        """
        also = frozenset({RANGE_REFUSED})
        with self._request("GET", reference, {"Range": "bytes=0-0"}, also, once) as response:
            download = _download(reference, response) if response.status_code != RANGE_REFUSED else None
        if download is None:
            with self._request("GET", reference, {}) as response:
                download = _download(reference, response)
        if download.media_type in _PAGES:
            raise RegistryError(
                f"{reference} is not a SIF file but a page of type {download.media_type}, such as one to log in with; "
                "check the address, and give username and password if it needs them"
            )
        return download

    @contextmanager
    def content(self, download: Download, offset: int = 0) -> Iterator[tuple[int, Iterator[bytes]]]:
        """GET a file, from a byte offset on where the server can, and the file is still the same (``If-Range``).

        Yields the offset at which the data really begins and the chunks.

        :raises RegistryError: one of its kinds; ``Unreachable`` also while reading, when the connection breaks.
        """
        condition = _strong(download.validators)
        headers = {"Range": f"bytes={offset}-", "If-Range": condition} if offset and condition else {}
        also = {RANGE_REFUSED} if headers else set()
        with self._request("GET", download.reference, headers, also=frozenset(also)) as response:
            data = data_from(response, offset if headers else 0, download.reference)
            if data:
                yield data
                return
            if not headers:
                raise Unreachable(f"{host_of(response.url)} sends a part of {download.reference}, unasked")
        with self.content(download) as whole:
            yield whole

    @contextmanager
    def _request(
        self,
        method: str,
        reference: Reference,
        headers: Mapping[str, str],
        also: frozenset[int] = frozenset(),
        once: bool = False,
    ) -> Iterator[requests.Response]:
        """Send one request; yield a response of status 2xx or in ``also``."""
        url = f"{reference.scheme}://{reference.registry}/{reference.repository}"
        url += f"?{reference.query}" if reference.query else ""
        request = HttpRequest(method, url, str(reference), {"Accept": "*/*", **headers}, once=once)
        response, tries, login = self._respond(reference, request)
        with response:
            if response.status_code >= 300 and response.status_code not in also:
                failure = _error(reference, ErrorResponse.of(response), bool(login), tries)
                failure.independent_of(str(reference))
                if not (login and response.status_code == 401):  # which would not be another one with a GET
                    failure.status = response.status_code
                raise failure
            if url.startswith("https:") and not response.url.startswith("https:") and not reference.digest:
                raise RegistryError(
                    f"{reference} leads to {host_of(response.url)} without TLS, where anybody may change it on its "
                    "way; give its digest after the name, or another address"
                )
            yield response
            if method == "HEAD" or response.status_code >= 300 or "Range" in headers:
                drain(response)

    def _respond(self, reference: Reference, request: HttpRequest) -> tuple[requests.Response, int, Login | None]:
        """Return the response that counts, its tries, and the login, which is sent only if it is asked for."""
        with self._lock:
            guarded = reference.registry in self._guarded
        login = self._login(reference) if guarded else None
        while True:
            try:
                response, tries = self._connections.send(
                    dataclasses.replace(request, authorization=login.basic if login else None)
                )
            except Unreachable as error:
                error.status = 0 if was_connected(error) else None
                raise
            at_home = origin(response.url) == origin(request.url)
            wanted = self._login(reference) if response.status_code == 401 and at_home and not login else None
            if not wanted:
                return response, tries, login
            drain(response)
            login = wanted
            with self._lock:
                self._guarded.add(reference.registry)

    def _login(self, reference: Reference) -> Login | None:
        """Return the login of the task. Those of an authfile are for registries."""
        known = self._keychain.credentials(reference.registry)
        if not (known.given and known.login and known.login.basic):
            return None
        if reference.scheme == "http" and not self._transport.to(reference.registry).http:
            raise CredentialsError(
                f"{reference} wants a login, which would travel unencrypted; use https://, or allow it with "
                "no_https: true"
            )
        return known.login


def _download(reference: Reference, response: requests.Response) -> Download:
    validators: dict[str, Any] = {}
    for key, name in (("etag", "ETag"), ("last_modified", "Last-Modified")):
        if response.headers.get(name):
            validators[key] = shown(response.headers[name])
    came = part(response)
    if came and came[1] is not None:
        validators["size"] = came[1]
    return Download(reference, media_type(response), validators)


def _strong(validators: Mapping[str, Any]) -> str | None:
    """Return a validator by which a file can be continued byte by byte (RFC 9110, section 13.1.5)."""
    known = (validators.get("etag"), validators.get("last_modified"))
    # One of other letters cannot be sent, nor one that was cut, which has an ellipsis at its end.
    return next((text for text in known if text and text.isascii() and not text.startswith("W/")), None)


def _error(reference: Reference, refusal: ErrorResponse, with_login: bool, tries: int) -> RegistryError:
    if refusal.status == 401:
        why = "did not accept the user name and password of the task" if with_login else "wants a login"
        return Unauthorized(
            f"unauthorized: {reference.registry} {why} for {reference} ({refusal.words}); check "
            + ("them" if with_login else "that the task has username and password: those of an authfile are not sent")
        )
    if refusal.status == 403:
        return Denied(f"denied: {reference.registry} does not give out {reference} ({refusal.words})")
    if refusal.status in (404, 410):
        return NotFound(f"not found: {reference} ({refusal.words}); check the address")
    tried = f", tried {tries} times" if tries > 1 else ""
    kind = RateLimited if refusal.status == 429 else RegistryError
    return kind(f"{reference.registry} failed to serve {reference} ({refusal.words}{tried})")
