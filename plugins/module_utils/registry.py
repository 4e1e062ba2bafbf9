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
import math
import random
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, urlencode, urljoin, urlsplit

try:
    import requests
    import requests.adapters
except ImportError:  # the modules say so before anything is tried
    HAS_REQUESTS = False
else:
    HAS_REQUESTS = True

from .credentials import Keychain, Login
from .errors import (
    CertificateError,
    Denied,
    DigestMismatch,
    InvalidManifest,
    InvalidReference,
    NotFound,
    RateLimited,
    RegistryError,
    Unauthorized,
    Unreachable,
)
from .reference import DOCKER_HUB, Reference, check_digest, shown

MANIFEST_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
    "application/vnd.docker.distribution.manifest.v1+json",
)
MAX_MANIFEST = 4 * 1024 * 1024  # bytes; the limit that the distribution specification names
CHUNK = 256 * 1024  # bytes read at a time; as much may be lost when a connection breaks

_HUB_ENDPOINT = "registry-1.docker.io"
_MAX_REDIRECTS = 5
_MAX_PAUSE = 60.0  # seconds; a registry that wants more than this is reported, not waited for
_MAX_DISCARDED = 64 * 1024  # bytes; reading that much is cheaper than a new connection
_RETRIED = frozenset({408, 429, 500, 502, 503, 504})
_RANGE_REFUSED = 416
_MAX_CHALLENGE = 4096  # characters
_CHALLENGE = re.compile(
    r"(?<![A-Za-z0-9_-])"  # whole words only, else a long one is searched again from each of its letters
    r"(?:([A-Za-z][A-Za-z0-9_-]*)\s+(?=[A-Za-z])|([A-Za-z_]+)=(?:\"((?:[^\"\\]|\\.)*)\"|([^\s,]+)))"
)
_TOKEN = re.compile(r"[!-~]+")
_TOKEN_LIFETIME = 60.0  # seconds, where the server tells none
_MAX_TOKEN_LIFETIME = 86400.0  # seconds


@dataclass(frozen=True)
class Transport:
    """How to reach a registry. ``timeout`` is in seconds, for connecting and for each wait for data."""

    http: bool = False
    verify: bool | str = True
    timeout: float = 30.0
    retries: int = 3
    connections: int = 9
    user_agent: str = "hpc.sregistry"


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


@dataclass(frozen=True)
class _Challenge:
    scheme: str
    parameters: dict[str, str]


class Registry:
    """All requests to one registry host."""

    def __init__(self, host: str, keychain: Keychain, transport: Transport) -> None:
        """
        :param host: as in a reference: ``docker.io``, ``quay.io``, ``localhost:5000``.
        """
        self.host = host
        self._keychain = keychain
        self._transport = transport
        scheme = "http" if transport.http else "https"
        self._base = f"{scheme}://{_HUB_ENDPOINT if host == DOCKER_HUB else host}/v2/"
        self._session = requests.Session()
        # Redirects are followed here; requests would read, and decompress, the body of one first.
        self._session.get_redirect_target = _no_redirect  # type: ignore[assignment]
        adapter = requests.adapters.HTTPAdapter(pool_connections=4, pool_maxsize=max(1, transport.connections))
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)
        self._lock = threading.Lock()
        self._challenge: _Challenge | None = None
        self._tokens: dict[str, tuple[str, float]] = {}

    def close(self) -> None:
        """Give the connections back."""
        self._session.close()

    def find(self, reference: Reference) -> Found:
        """Ask with one HEAD what a name points at. This does not count against Docker Hub's pull rate limit.

        :raises RegistryError: one of its kinds, naming image, registry and status.
        """
        with self._manifest("HEAD", reference) as response:
            digest = response.headers.get("Docker-Content-Digest", "")
            size = _content_length(response)
            if _is_digest(digest) and size is not None:
                return Found(digest, _media_type(response), size)
        # Some registries leave the digest out of a HEAD; then only the manifest itself can tell.
        body = self.fetch(reference)
        return Found(body.digest, body.media_type, len(body.content))

    def fetch(self, reference: Reference) -> Body:
        """GET a manifest and prove its digest.

        :raises DigestMismatch: if the content is not what the reference or the registry says it is.
        :raises RegistryError: one of its kinds.
        """
        with self._manifest("GET", reference) as response:
            content = _content(response, MAX_MANIFEST, reference)
            media_type = _media_type(response)
            promised = reference.digest or response.headers.get("Docker-Content-Digest")
        payload = _signed_payload(content)
        actual = _digest_of(payload, promised)
        if promised and actual != promised:
            raise DigestMismatch(
                f"digest mismatch for the manifest of {reference}: {self.host} promised {shown(promised)} "
                f"and sent {len(content)} bytes with {actual}"
            )
        return Body(actual, media_type, payload)

    @contextmanager
    def blob(self, repository: str, digest: str, offset: int = 0) -> Iterator[tuple[int, Iterator[bytes]]]:
        """GET a blob, from a byte offset on where the registry can.

        Yields the offset at which the data really begins (0 if a Range was not honoured, or refused) and the chunks.

        :raises RegistryError: one of its kinds; ``Unreachable`` also while reading, when the connection breaks.
        """
        what = f"the blob {digest} of {self.host}/{repository}"
        headers = {"Accept": "*/*"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
        path = f"{repository}/blobs/{digest}"
        with self._request("GET", path, repository, headers, what, also=(_RANGE_REFUSED,) * bool(offset)) as response:
            if response.status_code != _RANGE_REFUSED:
                begin = offset if response.status_code == 206 else 0
                yield begin, self._chunks(response, what)
                return
        with self.blob(repository, digest) as whole:
            yield whole

    def tags(self, repository: str) -> list[str]:
        """The first page of a repository's tags.

        :raises RegistryError: one of its kinds; ``NotFound`` if there is no such repository.
        """
        what = f"the tags of {self.host}/{repository}"
        with self._request("GET", f"{repository}/tags/list?n=1000", repository, {}, what) as response:
            try:
                tags = json.loads(_content(response, MAX_MANIFEST, what)).get("tags")
            except (ValueError, AttributeError, RecursionError):
                tags = None
        return [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else []

    @contextmanager
    def _manifest(self, method: str, reference: Reference) -> Iterator[requests.Response]:
        path = f"{reference.repository}/manifests/{quote(reference.selector, safe=':')}"
        headers = {"Accept": ", ".join(MANIFEST_TYPES)}
        try:
            with self._request(method, path, reference.repository, headers, str(reference)) as response:
                yield response
        except NotFound as error:
            raise self._explain_absence(reference, error) from error

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

    def _chunks(self, response: requests.Response, what: str) -> Iterator[bytes]:
        received = 0
        try:
            while True:
                chunk = response.raw.read(CHUNK, decode_content=False)
                if not chunk:
                    break
                received += len(chunk)
                yield chunk
        except Exception as error:
            if _is_broken(error):
                raise Unreachable(f"the connection broke while reading {what}: {_reason(error)}") from error
            raise
        _need_all(response, received, what)

    @contextmanager
    def _request(
        self, method: str, path: str, repository: str, headers: dict[str, str], what: str, also: tuple[int, ...] = ()
    ) -> Iterator[requests.Response]:
        """One request with authentication, redirects and retries; yields a response of status 2xx or in ``also``.

        Only the registry itself may ask for a login: a challenge of whoever it redirects to is not answered.
        """
        url = self._base + path
        authorization = self._authorization(repository)
        attempts = self._transport.retries + 1
        challenged = False
        attempt = 0
        while True:
            attempt += 1
            response = self._follow(method, url, headers, authorization, what, last=attempt >= attempts)
            if response is None:
                time.sleep(_pause(attempt, None))
                continue
            at_home = _origin(response.url) == _origin(url)
            if response.status_code == 401 and at_home and not challenged:
                challenged = True
                attempt -= 1
                offered = _parse_challenge(response.headers.get("WWW-Authenticate", ""))
                if offered:
                    _discard(response)
                    if authorization:  # what was remembered is not accepted any more
                        self._forget(repository, authorization)
                    authorization = self._answer(offered, repository, what)
                    continue
            if response.status_code in _RETRIED and attempt < attempts:
                wait = _pause(attempt, response.headers.get("Retry-After"))
                if wait <= _MAX_PAUSE:
                    _discard(response)
                    time.sleep(wait)
                    continue
            break
        with response:
            if response.status_code in (401, 403) and not at_home:
                raise RegistryError(
                    f"{self.host} redirects {what} to {_host(response.url)}, which refuses it (status "
                    f"{response.status_code}{_said(response)}); the login was not sent there. Try again, or ask "
                    "whoever runs the registry"
                )
            if response.status_code >= 300 and response.status_code not in also:
                raise self._error(response, what, attempt)
            yield response
            if method == "HEAD" or response.status_code >= 300:
                _discard(response)

    def _follow(
        self, method: str, url: str, headers: dict[str, str], authorization: str | None, what: str, last: bool
    ) -> requests.Response | None:
        """Send one request, following redirects. None means: no answer, but it is worth another try.

        The login goes to the registry's own origin only: object stores that blobs redirect to must not see it.
        """
        origin = _origin(url)
        for _hop in range(_MAX_REDIRECTS + 1):
            sent = {"User-Agent": self._transport.user_agent, "Accept-Encoding": "identity", **headers}
            if authorization and _origin(url) == origin:
                sent["Authorization"] = authorization
            try:
                response = self._session.request(
                    method,
                    url,
                    headers=sent,
                    stream=True,
                    allow_redirects=False,
                    timeout=self._transport.timeout,
                    verify=self._transport.verify,
                    auth=_no_netrc,
                )
            except requests.exceptions.SSLError as error:
                reason = _reason(error)
                plain = "WRONG_VERSION_NUMBER" in reason or "record layer failure" in reason
                way_out = "it may speak plain http: no_https: true" if plain else "give the registry's CA with ca_path"
                raise CertificateError(
                    f"TLS failure at {_host(url)} while asking for {what}: {reason}; {way_out}"
                ) from error
            except requests.exceptions.RequestException as error:
                if not last and isinstance(error, (requests.exceptions.ConnectionError, requests.exceptions.Timeout)):
                    return None
                raise Unreachable(
                    f"no answer from {_host(url)} while asking for {what}: {_reason(error)} "
                    f"(tried {self._transport.retries + 1} times); check the registry's name, the network and the "
                    "proxy settings"
                ) from error
            except ValueError as error:  # what only urllib3 finds wrong with the address
                raise RegistryError(
                    f"{_host(url)} redirects {what} to what is no web address: {_reason(error)}"
                ) from error
            if response.status_code not in (301, 302, 303, 307, 308):
                return response
            location = response.headers.get("Location", "")
            _discard(response)
            if not _is_web_address(location, url):
                raise RegistryError(f"{_host(url)} redirects {what} to {_place(location)!r}, which is no web address")
            url = urljoin(url, location)
        raise RegistryError(f"{_host(url)} redirects {what} more than {_MAX_REDIRECTS} times")

    def _authorization(self, repository: str) -> str | None:
        """What a request can send at once, because an earlier answer taught it."""
        with self._lock:
            challenge = self._challenge
        return self._answer(challenge, repository, f"{self.host}/{repository}") if challenge else None

    def _answer(self, challenge: _Challenge, repository: str, what: str) -> str | None:
        with self._lock:
            self._challenge = challenge
        login = self._keychain.login(self.host)
        if challenge.scheme == "basic":
            return _basic(login) if login else None
        return f"Bearer {self._token(challenge, repository, login, what)}"

    def _forget(self, repository: str, authorization: str) -> None:
        """Give up a token that was not accepted, unless another thread has renewed it meanwhile."""
        with self._lock:
            token, _expires = self._tokens.get(_scope(repository), ("", 0.0))
            if authorization == f"Bearer {token}":
                del self._tokens[_scope(repository)]

    def _token(self, challenge: _Challenge, repository: str, login: Login | None, what: str) -> str:
        """A bearer token for pulling one repository (Docker's "Token Authentication Specification")."""
        scope = _scope(repository)
        with self._lock:
            token, expires = self._tokens.get(scope, ("", 0.0))
        if token and time.monotonic() < expires:
            return token
        url = self._token_url(challenge, scope, login)
        response = self._ask_for_token(url, login, what)
        with response:
            try:
                answer = json.loads(_content(response, MAX_MANIFEST, f"a token for {what}"))
                token = answer.get("token") or answer["access_token"]
                if not (isinstance(token, str) and _TOKEN.fullmatch(token)):
                    raise ValueError("no text that can stand in a header")
                lifetime = _lifetime(answer.get("expires_in"))
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                raise RegistryError(f"the token server {_host(url)} of {self.host} sent no token for {what}") from error
        with self._lock:
            # a token that ends while a request is on its way would cost a round trip more
            self._tokens[scope] = (token, time.monotonic() + lifetime * 0.8)
        return token

    def _token_url(self, challenge: _Challenge, scope: str, login: Login | None) -> str:
        realm = challenge.parameters.get("realm", "")
        if not _is_web_address(realm):
            raise RegistryError(
                f"{self.host} asks for a token, but names no server to get it from (realm {_place(realm)!r})"
            )
        if login and self._base.startswith("https:") and not realm.startswith("https:"):
            raise RegistryError(f"{self.host} wants the login sent to {_place(realm)} without TLS; it was not sent")
        query = {"scope": scope}
        if challenge.parameters.get("service"):
            query["service"] = challenge.parameters["service"]
        return f"{realm}{'&' if '?' in realm else '?'}{urlencode(query)}"

    def _ask_for_token(self, url: str, login: Login | None, what: str) -> requests.Response:
        """The token server's answer of status 2xx; it gets the same patience as the registry."""
        attempts = self._transport.retries + 1
        for attempt in range(1, attempts + 1):
            last = attempt == attempts
            response = self._follow("GET", url, {}, _basic(login) if login else None, f"a token for {what}", last)
            if response is None:  # never the last time
                time.sleep(_pause(attempt, None))
                continue
            wait = _pause(attempt, response.headers.get("Retry-After"))
            if response.status_code in _RETRIED and not last and wait <= _MAX_PAUSE:
                _discard(response)
                time.sleep(wait)
                continue
            if response.status_code < 300:
                return response
            with response:
                raise self._error(response, what, attempt)
        raise AssertionError("the last try returns or raises")

    def _error(self, response: requests.Response, what: str, tries: int) -> RegistryError:
        status = response.status_code
        said = _said(response)
        where = f"status {status} from {_host(response.url)}"
        with_login = self._keychain.login(self.host) is not None
        if status == 401:
            if with_login:
                return Unauthorized(
                    f"unauthorized: {self.host} did not accept {self._keychain.source} for {what} ({where}{said}); "
                    "check user name and password, and that this user may pull it"
                )
            return Unauthorized(
                f"unauthorized: {self.host} wants a login for {what} ({where}{said}), and there is "
                f"{self._keychain.source}; give username and password, or an authfile. Docker Hub also answers so "
                "when the repository does not exist"
            )
        if status == 403:
            return Denied(
                f"denied: the registry does not allow {'this login' if with_login else 'anonymous users'} to "
                f"pull {what} ({where}{said}); ask its owner for access"
            )
        if status == 404:
            return NotFound(f"not found: {what} ({where}{said})")
        wait = shown(response.headers.get("Retry-After", ""), 40)
        later = f"; try again after {wait}{' s' if wait.isdigit() else ''}" if wait else "; try again later"
        if status not in _RETRIED:
            later = ""
        if status == 429:
            limit = shown(response.headers.get("ratelimit-limit", "").partition(";")[0], 20)
            more = (f"; the limit is {limit} pulls" if limit else "") + later
            return RateLimited(
                f"too many requests: {self.host} serves no more for now, wanted {what} ({where}{said}){more}; "
                "log in for a higher limit, or use a mirror"
            )
        tried = f", tried {tries} times" if tries > 1 else ""
        return RegistryError(f"{self.host} failed to serve {what} ({where}{tried}{said}){later}")


class Registries:
    """The sessions of one run: one ``Registry`` for each host, made when first asked for."""

    def __init__(self, keychain: Keychain, transport: Transport) -> None:
        self._keychain = keychain
        self._transport = transport
        self._lock = threading.Lock()
        self._sessions: dict[str, Registry] = {}

    def of(self, reference: Reference) -> Registry:
        """The session to the registry of a reference."""
        with self._lock:
            if reference.registry not in self._sessions:
                self._sessions[reference.registry] = Registry(reference.registry, self._keychain, self._transport)
            return self._sessions[reference.registry]

    def login(self, reference: Reference) -> Login | None:
        """The login that belongs to an image's registry, for a program that speaks to it itself.

        :raises CredentialsError: if the authfile cannot be used.
        """
        return self._keychain.login(reference.registry)

    def close(self) -> None:
        """Close every session."""
        for session in self._sessions.values():
            session.close()


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


def _content(response: requests.Response, limit: int, what: object) -> bytes:
    """All of a document, as it came: nothing is decompressed, for a few bytes can hold gigabytes.

    :raises InvalidManifest: if it is larger than the limit, in bytes.
    :raises RegistryError: if it is encoded, which it was asked not to be.
    """
    if _is_encoded(response):
        encoding = shown(response.headers["Content-Encoding"], 40)
        raise RegistryError(
            f"{_host(response.url)} sent {what} with the Content-Encoding {encoding!r}, though it was asked for "
            "'identity'; a proxy may do that, so try without it"
        )
    chunks: list[bytes] = []
    total = 0
    try:
        while True:
            chunk = response.raw.read(65536, decode_content=False)
            if not chunk:
                break
            total += len(chunk)
            if total > limit:
                break
            chunks.append(chunk)
    except Exception as error:
        if _is_broken(error):
            raise Unreachable(
                f"the connection to {_host(response.url)} broke while reading {what}: {_reason(error)}"
            ) from error
        raise
    if total > limit:
        raise InvalidManifest(f"{_host(response.url)} sent more than {limit} bytes for {what}; that is no manifest")
    _need_all(response, total, what)
    return b"".join(chunks)


def _is_encoded(response: requests.Response) -> bool:
    return response.headers.get("Content-Encoding", "").strip().lower() not in ("", "identity")


def _need_all(response: requests.Response, received: int, what: object) -> None:
    """Refuse a body that ended before its promised length, which urllib3 before 2 takes for whole."""
    promised = _content_length(response)
    if promised is not None and received < promised:
        raise Unreachable(f"the connection broke while reading {what}: {received} of {promised} bytes came")


def _content_length(response: requests.Response) -> int | None:
    text = response.headers.get("Content-Length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None


def _is_digest(text: str) -> bool:
    try:
        return bool(check_digest(text))
    except InvalidReference:
        return False


def _discard(response: requests.Response) -> None:
    """Have done with a response; its connection is used again if there is little left to read from it."""
    try:
        response.raw.read(_MAX_DISCARDED, decode_content=False)
    except Exception as error:  # a broken connection is closed below like any other
        if not _is_broken(error):
            raise
    response.close()


def _is_broken(error: Exception) -> bool:
    """Plain socket errors, urllib3's own exceptions and http.client's: all of them are a broken connection."""
    return isinstance(error, (OSError, ValueError)) or type(error).__module__.partition(".")[0] in ("urllib3", "http")


def _parse_challenge(header: str) -> _Challenge | None:
    """Read WWW-Authenticate (RFC 9110, section 11.6.1): a Bearer or else a Basic challenge, parameters in any order."""
    if len(header) > _MAX_CHALLENGE:
        return None
    offers: list[_Challenge] = []
    for match in _CHALLENGE.finditer(header):
        if match.group(1):
            offers.append(_Challenge(match.group(1).lower(), {}))
        elif offers:
            value = match.group(3) if match.group(3) is not None else match.group(4)
            offers[-1].parameters[match.group(2).lower()] = re.sub(r"\\(.)", r"\1", value)
    by_scheme = {offer.scheme: offer for offer in reversed(offers)}
    return by_scheme.get("bearer") or by_scheme.get("basic") or (_Challenge("basic", {}) if "asic" in header else None)


def _lifetime(told: Any) -> float:
    """Seconds that a token is kept, from its ``expires_in``.

    :raises TypeError, ValueError: if that is no number.
    """
    try:
        seconds = float(told or _TOKEN_LIFETIME)
    except OverflowError:
        seconds = _TOKEN_LIFETIME
    return _TOKEN_LIFETIME if math.isnan(seconds) else min(max(seconds, 0.0), _MAX_TOKEN_LIFETIME)


def _scope(repository: str) -> str:
    return f"repository:{repository}:pull"


def _basic(login: Login) -> str:
    return "Basic " + base64.b64encode(f"{login.username}:{login.password}".encode()).decode("ascii")


def _no_netrc(request: Any) -> Any:
    """Handed to requests as its authentication, so that it does not send what a ~/.netrc happens to hold."""
    return request


def _no_redirect(_response: requests.Response) -> None:
    """Handed to requests as its way to see where a response leads."""


def _pause(attempt: int, retry_after: str | None) -> float:
    """Seconds to wait before the next try: what the registry asks for, else doubled each time with some jitter."""
    if retry_after:
        try:
            return max(0.0, float(retry_after))
        except ValueError:
            try:
                return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
            except (TypeError, ValueError, OverflowError, IndexError):
                pass
    return min(10.0, 0.5 * 2.0 ** (attempt - 1)) * random.uniform(0.75, 1.25)


def _media_type(response: requests.Response) -> str:
    return shown(response.headers.get("Content-Type", "").partition(";")[0].strip())


def _origin(url: str) -> tuple[str, str | None, int | None]:
    """Scheme, host and port (RFC 6454).

    :raises ValueError: if the URL is malformed.
    """
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"https": 443, "http": 80}.get(parts.scheme)


def _is_web_address(url: str, base: str = "") -> bool:
    try:
        return _origin(urljoin(base, url))[0] in ("http", "https")
    except ValueError:
        return False


def _host(url: str) -> str:
    return shown(urlsplit(url).netloc.rpartition("@")[2])


def _place(url: str) -> str:
    """A web address without what may be secret in it: a login, and the query, which signs it."""
    return shown(re.sub(r"//[^/]*@", "//", re.split(r"[?#]", url, maxsplit=1)[0]))


def _said(response: requests.Response) -> str:
    """The registry's own words (distribution specification, "Error Codes"), shortened."""
    if _is_encoded(response):
        return ""
    try:
        errors = json.loads(response.raw.read(65536, decode_content=False))["errors"]
        words = "; ".join(" ".join(str(e.get(k)) for k in ("code", "message") if e.get(k)) for e in errors)
    except (KeyError, TypeError, AttributeError, RecursionError):
        return ""
    except Exception as error:  # it is no JSON, or the connection broke
        if _is_broken(error):
            return ""
        raise
    return f": {shown(words)}" if words else ""


def _reason(error: BaseException) -> str:
    """The innermost cause in one line, without the addresses of Python objects."""
    inner: Any = error
    for _depth in range(8):
        following = getattr(inner, "reason", None) or inner.__cause__ or inner.__context__
        if not isinstance(following, Exception) or not _is_broken(
            following
        ):  # what came before has nothing to do with it
            break
        inner = following
    text = str(inner) or type(inner).__name__
    text = re.sub(r"<[^<>]*object at 0x[0-9a-f]+>:? ?", "", text[:2000])
    return shown(re.sub(r"\?[^\s'\")]+", "?…", text))  # the query of an address may be a secret
