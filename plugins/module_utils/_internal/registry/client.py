# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# pylint: disable=contextmanager-generator-missing-cleanup  # contextlib ends a suspended generator, and its blocks

"""One session to one registry, after the OCI distribution specification 1.1 and Docker's token authentication.

A ``Registry`` keeps one pool of kept-alive connections. It speaks first without a ping: a registry that wants a login
answers 401 with a challenge, which is remembered for the requests that follow.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING
from urllib.parse import quote

from ..errors import DigestMismatch, NotFound, RegistryError, Unreachable
from ..late import importing
from ..oci.reference import DOCKER_HUB, Reference, is_digest
from ..text import shown
from ..transport.auth import Authentication, Permit
from ..transport.challenge import Challenge, parse_challenge
from ..transport.http import RETRIED, Connections
from ..transport.keychain import Keychain
from ..transport.options import Transport
from ..transport.response import chunks, content, content_length, discard, media_type, part
from ..transport.token import Scope
from ..transport.url import host_of, is_web_address, origin, place, seen_from

if TYPE_CHECKING:
    import requests

    from ..transport.error_response import Refusal

MANIFEST_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
    "application/vnd.docker.distribution.manifest.v1+json",
)
MAX_MANIFEST = 4 * 1024 * 1024  # bytes; the limit that the distribution specification names

_HUB_ENDPOINT = "registry-1.docker.io"
_PARTIAL, _RANGE_REFUSED = 206, 416
_VEILED = frozenset({401, 403, 404})  # what anonymous users get of what is there for others


@dataclass(frozen=True)
class Found:
    """The answer to "what does this name point at": digest, media type and size in bytes of a manifest."""

    digest: str
    media_type: str
    size: int


@dataclass(frozen=True)
class Body:
    """A manifest, its digest proven. Of a signed one, ``content`` is what was signed, and nothing else of it."""

    digest: str
    media_type: str
    content: bytes


class Registry:
    """All requests to one registry host. ``divisible``: a blob may be fetched by several requests at once."""

    divisible = True

    def __init__(self, host: str, keychain: Keychain, transport: Transport) -> None:
        """
        :param host: as in a reference: ``docker.io``, ``quay.io``, ``localhost:5000``.
        """
        self.host = host
        scheme = "http" if transport.http else "https"
        self._base = f"{scheme}://{_HUB_ENDPOINT if host == DOCKER_HUB else host}/v2/"
        self._connections = Connections(transport)
        self._authentication = Authentication(host, keychain, self._connections, secure=not transport.http)

    def close(self) -> None:
        """Give the connections back."""
        self._connections.close()

    def warnings(self, repository: str) -> list[str]:
        """What the user should know of a repository though it was served: a login that was not accepted."""
        return self._authentication.warnings(repository)

    def find(self, reference: Reference) -> Found:
        """Ask with one HEAD what a name points at. This does not count against Docker Hub's pull rate limit.

        A HEAD is only the cheaper question: some registries and proxies refuse it, or leave the digest out. Then the
        manifest itself is asked for. What a HEAD tells is not proven: who finds something new has to ``fetch`` it.

        :raises RegistryError: one of its kinds, naming image, registry and status.
        """
        found, waited = self._found_by_head(reference)
        if found:
            return found
        body = self._fetched(reference, once=waited)
        return Found(body.digest, body.media_type, len(body.content))

    def digest(self, reference: Reference) -> str:
        """What a name points at, for whoever keeps it: proven by a GET, where that costs nothing.

        Docker Hub counts a GET against its pull rate limit; there, what a HEAD tells has to do.

        :raises RegistryError: as ``find`` and ``fetch``.
        """
        return self.find(reference).digest if self.host == DOCKER_HUB else self.fetch(reference).digest

    def _found_by_head(self, reference: Reference) -> tuple[Found | None, bool]:
        """What a HEAD tells, None if it does not; and whether all patience with the registry was spent on it.

        :raises RegistryError: if a GET would fare no better: nobody is there, or the login is no good.
        """
        path, headers = self.manifest_path(reference), {"Accept": ", ".join(MANIFEST_TYPES)}
        try:
            with self.request("HEAD", path, Scope(reference.repository), headers, str(reference)) as response:
                digest = response.headers.get("Docker-Content-Digest", "")
                size = content_length(response)
                self._need_tls(response, reference)
                return (Found(digest, media_type(response), size) if is_digest(digest) and size else None), False
        except RegistryError as error:
            if error.status is None:
                raise
            return None, error.status in (0, *RETRIED)

    def fetch(self, reference: Reference) -> Body:
        """GET a manifest and prove its digest.

        :raises DigestMismatch: if the content is not what the reference or the registry says it is.
        :raises RegistryError: one of its kinds.
        """
        return self._fetched(reference)

    def _fetched(self, reference: Reference, once: bool = False) -> Body:
        path, headers = self.manifest_path(reference), {"Accept": ", ".join(MANIFEST_TYPES)}
        scope = Scope(reference.repository)
        try:
            with self.request("GET", path, scope, headers, str(reference), once=once) as response:
                return self._body(response, reference)
        except NotFound as error:
            raise self._explain_absence(reference, error) from error

    def look(self, reference: Reference, writes: bool = False) -> Body | None:
        """As ``fetch``, where it is no error that there is none: nobody is asked why.

        :param writes: whether something is to be written there next, which takes another token.
        """
        path, headers = self.manifest_path(reference), {"Accept": ", ".join(MANIFEST_TYPES)}
        scope = Scope(reference.repository, writes)
        with self.request("GET", path, scope, headers, str(reference), also=(404,)) as response:
            return None if response.status_code == 404 else self._body(response, reference)

    def _body(self, response: requests.Response, reference: Reference) -> Body:
        self._need_tls(response, reference)
        body = content(response, MAX_MANIFEST, reference)
        kind = media_type(response)
        if kind == "text/html" and not body.startswith(b"{"):
            raise RegistryError(
                f"{host_of(response.url)} sent a page for people in the place of {reference}, such as one to log in "
                "with; a proxy may do that, so try without it"
            )
        told = response.headers.get("Docker-Content-Digest", "")
        # One that is twice there, in quotes, or without its algorithm tells nothing.
        promised = reference.digest or (told if is_digest(told) else None)
        payload = _signed_payload(body)
        actual = _digest_of(payload, promised)
        if promised and actual != promised:
            raise DigestMismatch(
                f"digest mismatch for the manifest of {reference}: {self.host} promised {shown(promised)} "
                f"and sent {len(body)} bytes with {actual}"
            )
        return Body(actual, kind, payload)

    def _need_tls(self, response: requests.Response, reference: Reference) -> None:
        """Refuse what nothing proves: what a tag points at, told without TLS by who was to be asked with it."""
        if self._base.startswith("https:") and not response.url.startswith("https:") and not reference.digest:
            raise RegistryError(
                f"{self.host} redirects {reference} to {host_of(response.url)} without TLS, where anybody may change "
                "it on its way; name the image by its digest, or ask whoever runs the registry"
            )

    @contextmanager
    def blob(
        self, repository: str, digest: str, offset: int = 0, end: int | None = None
    ) -> Iterator[tuple[int, Iterator[bytes]]]:
        """GET a blob, from a byte offset on, and up to a byte (exclusive), where the registry can.

        Yields the offset at which the data really begins and the chunks. That is 0 if a Range was not honoured or was
        refused, or if the part that came is another one.

        :raises RegistryError: one of its kinds; ``Unreachable`` also while reading, when the connection breaks.
        """
        what = f"the blob {digest} of {self.host}/{repository}"
        headers = {"Accept": "*/*"}
        if offset or end is not None:
            headers["Range"] = f"bytes={offset}-" + (str(end - 1) if end is not None else "")
        path = f"{repository}/blobs/{digest}"
        also = (_RANGE_REFUSED,) * bool(headers.get("Range"))
        with self.request("GET", path, Scope(repository), headers, what, also) as response:
            came = part(response) if response.status_code != _RANGE_REFUSED else None
            if came and (came[0] == offset or response.status_code != _PARTIAL):
                yield came[0], chunks(response, what)
                return
        if not headers.get("Range"):
            raise Unreachable(f"{self.host} sends a part of {what}, unasked; a proxy may do that, so try without it")
        with self.blob(repository, digest) as whole:
            yield whole

    @contextmanager
    def elsewhere(self, url: str, what: str, offset: int = 0) -> Iterator[tuple[int, Iterator[bytes]]]:
        """GET what a manifest says is at another address, as ``blob`` does. No login goes there.

        :raises RegistryError: one of its kinds; also for an address that is not one of HTTP.
        """
        if not is_web_address(url):
            raise RegistryError(f"{place(url)!r} is not an address of HTTP")
        headers = {"Accept": "*/*", **({"Range": f"bytes={offset}-"} if offset else {})}
        response, _tries = self._connections.ask("GET", url, what, headers)
        with response:
            if response.status_code < 300:
                came = part(response)
                if came and (came[0] == offset or response.status_code != _PARTIAL):
                    yield came[0], chunks(response, what)
                    return
            elif response.status_code != _RANGE_REFUSED or not offset:
                raise NotFound(f"{place(url)} does not give it (status {response.status_code})")
        if not offset:
            raise Unreachable(f"{place(url)} sends a part of it, unasked")
        with self.elsewhere(url, what) as whole:
            yield whole

    def tags(self, repository: str) -> list[str]:
        """The first page of a repository's tags.

        :raises RegistryError: one of its kinds; ``NotFound`` if there is no such repository.
        """
        what = f"the tags of {self.host}/{repository}"
        with self.request("GET", f"{repository}/tags/list?n=1000", Scope(repository), {}, what) as response:
            try:
                tags = json.loads(content(response, MAX_MANIFEST, what)).get("tags")
            except (ValueError, AttributeError, RecursionError):
                tags = None
        return [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else []

    @staticmethod
    def manifest_path(reference: Reference) -> str:
        """Where a manifest is, below ``/v2/``."""
        return f"{reference.repository}/manifests/{quote(reference.selector, safe=':')}"

    def _explain_absence(self, reference: Reference, error: NotFound) -> NotFound:
        """Tell an unknown repository from an unknown tag, which a HEAD (and many a GET) does not."""
        try:
            tags = self.tags(reference.repository)
        except NotFound:
            return NotFound(
                f"name unknown: the registry {self.host} has no repository {reference.repository!r} "
                f"(status 404, wanted {reference}); check the spelling, or log in if it is private"
            )
        except RegistryError:
            return error
        if reference.digest:
            return NotFound(
                f"manifest unknown: {reference.path} has no manifest {reference.digest} (status 404 from {self.host}); "
                "it may have been deleted or belong to another repository"
            )
        known = ", ".join(shown(tag, 128) for tag in sorted(tags)[:20]) + (", …" if len(tags) > 20 else "")
        return NotFound(
            f"manifest unknown: {reference.path} has no tag {reference.tag!r} (status 404 from {self.host}); "
            f"it has {known or 'no tags'}"
        )

    @contextmanager
    def request(
        self,
        method: str,
        path: str,
        scope: Scope,
        headers: Mapping[str, str],
        what: str,
        also: Collection[int] = (),
        body: bytes | IO[bytes] | None = None,
        once: bool = False,
    ) -> Iterator[requests.Response]:
        """One request with authentication, redirects and retries; yields a response of status 2xx or in ``also``.

        Only the registry itself may ask for a login: a challenge of whoever it redirects to is not answered. Nor does
        a login go to another host that ``path`` leads to.

        :param path: below ``/v2/``, or, for an address that the registry gave, the whole URL.
        :param body, once: as ``Connections.ask`` takes them.
        :raises RegistryError: one of its kinds.
        """
        url = seen_from(self._base, path)
        own = origin(url) == origin(self._base)
        permit = self._authentication.remembered(scope) if own else Permit()
        answered = False
        while True:
            try:
                response, tries = self._connections.ask(
                    method, url, what, headers, permit.authorization, body=body, once=once
                )
            except Unreachable as error:
                raise self._silent(error) from error
            at_home = own and origin(response.url) == origin(url)
            offered = self._offered(response, permit, scope) if at_home and not answered else None
            if response.status_code < 300 or (response.status_code in also and not offered):
                break
            with importing:
                from ..transport.error_response import Refusal
            with response:
                refusal = Refusal.of(response)
                discard(response)
            if at_home and response.status_code == 401 and permit.authorization:
                self._authentication.refused(scope, permit, refusal.words)
            if not offered:
                raise self._failure(response, refusal, permit if at_home else None, scope, what, tries)
            answered = True
            permit = self._authentication.answer(offered, scope, what)
        with response:
            yield response
            if method == "HEAD" or response.status_code >= 300:
                discard(response)

    def _offered(self, response: requests.Response, permit: Permit, scope: Scope) -> Challenge | None:
        """What the registry asks for with a refusal, or, where it only denies or hides what it has, at its door."""
        if response.status_code == 401:
            challenge = parse_challenge(response.headers.get("WWW-Authenticate", ""))
            if challenge:
                return challenge
        if permit.authorization or response.status_code not in _VEILED:
            return None
        return self._authentication.at_the_door(self._base, scope)

    def _failure(
        self, response: requests.Response, refusal: Refusal, permit: Permit | None, scope: Scope, what: str, tries: int
    ) -> RegistryError:
        """What a refusal means, with its status unless it is about the login.

        :param permit: what was sent; None if another host refused it, which gets none.
        """
        if response.status_code in (401, 403) and not permit:
            failure = RegistryError(
                f"{self.host} redirects {what} to {host_of(response.url)}, which refuses it ({refusal.words}); the "
                "login was not sent there. Try again, or ask whoever runs the registry"
            )
        else:
            permit = permit or Permit()
            failure = refusal.error(self.host, what, self._authentication.asker(permit, scope), tries, scope.deed)
        challenge = response.headers.get("WWW-Authenticate")
        about_login = response.status_code == 401 and challenge and permit and permit.login
        if not about_login or (permit and permit.asker.accepted):
            failure.status = response.status_code
        return failure

    def _silent(self, error: Unreachable) -> Unreachable:
        """Tell whether somebody is there, and who named no registry which one was asked."""
        with importing:
            from ..transport.connection_error import was_connected
        more = ". A name without a registry is one of Docker Hub; write REGISTRY/NAME for another one, or set registry"
        told = error.with_more(more) if self.host == DOCKER_HUB else error
        told.status = 0 if was_connected(error) else None
        return told


def manifest_digest(content: bytes, like: str | None = None) -> str:
    """The digest of a manifest: of its bytes, or, for a signed schema 1 manifest, of the payload that was signed.

    :param like: a digest whose algorithm to use; sha256 otherwise.
    Source: distribution's "Image Manifest Version 2, Schema 1", section "Signed Manifests".
    """
    return _digest_of(_signed_payload(content), like)


def _digest_of(payload: bytes, like: str | None) -> str:
    algorithm = (like or "sha256").partition(":")[0]
    if algorithm not in ("sha256", "sha512"):
        algorithm = "sha256"
    return f"{algorithm}:{hashlib.new(algorithm, payload).hexdigest()}"


def _signed_payload(content: bytes) -> bytes:
    """What a signed schema 1 manifest signs; any other content as it is.

    Whoever reads on must read this: what else stands in the document is covered by no digest.
    """
    if b'"signatures"' not in content:
        return content
    try:
        document = json.loads(content)
        if document["schemaVersion"] != 1:
            return content
        header = json.loads(_unbase64url(document["signatures"][0]["protected"]))
        return content[: int(header["formatLength"])] + _unbase64url(header["formatTail"])
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError, RecursionError):
        return content


def _unbase64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
