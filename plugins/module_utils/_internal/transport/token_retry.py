# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# pylint: disable=contextmanager-generator-missing-cleanup  # contextlib ends a suspended generator, and its blocks

"""Requests to one registry, sent again, once, with the login or the new token that the registry asks for.

The first request goes without a ping: a registry that wants a login answers 401 with a challenge, which is remembered
for the requests that follow. A token that has ended is answered so too, and renewed. A token is also renewed before
it ends: ``auth.py`` keeps the tokens, and knows when. Source: RFC 9110, section 11, and distribution,
``docs/content/spec/auth/token.md``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING

from ..errors import RegistryError, Unreachable
from ..late import importing
from ..oci.reference import DOCKER_HUB
from .auth import Authentication, Authorization
from .challenge import Challenge, parse_challenge
from .http import Connections, HttpRequest
from .keychain import Keychain
from .options import Transport
from .response import drain
from .token import Scope
from .url import host_of, origin, seen_from

if TYPE_CHECKING:
    import requests

    from .error_response import ErrorResponse

_HUB_ENDPOINT = "registry-1.docker.io"
_VEILED = frozenset({401, 403, 404})  # what anonymous users get of what is there for others


@dataclass(frozen=True)
class RegistryRequest:
    """One request to a registry.

    ``path`` is below ``/v2/``, or, for an address that the registry gave, the whole URL. ``what`` names what it is
    about, in errors. ``also`` are statuses beside 2xx that are not errors. ``body`` and ``once`` are ``content`` and
    ``once`` of ``HttpRequest``.
    """

    method: str
    path: str
    scope: Scope
    what: str
    headers: Mapping[str, str] = field(default_factory=dict)
    also: Collection[int] = ()
    body: bytes | IO[bytes] | None = field(default=None, repr=False)
    once: bool = False


@dataclass(frozen=True)
class _Exchange:
    """A response, and the authorization of its request. ``at_home``: the registry itself answered."""

    response: requests.Response
    tries: int
    authorization: Authorization
    at_home: bool


class AuthenticatedConnections:
    """The kept-alive connections of one session to one registry, with its logins and tokens."""

    def __init__(self, host: str, keychain: Keychain, transport: Transport) -> None:
        """
        :param host: as in a reference: ``docker.io``, ``quay.io``, ``localhost:5000``.
        """
        transport = transport.to(host)
        self.host = host
        self.base = f"{'http' if transport.http else 'https'}://{_HUB_ENDPOINT if host == DOCKER_HUB else host}/v2/"
        self.anonymous = Connections(transport)
        self._authentication = Authentication(host, keychain, self.anonymous, secure=not transport.http)

    def close(self) -> None:
        """Give the connections back."""
        self.anonymous.close()

    def warnings(self, repository: str) -> list[str]:
        """Return what the user must know of a repository though it was served: a login that was not accepted."""
        return self._authentication.warnings(repository)

    @contextmanager
    def send(self, request: RegistryRequest) -> Iterator[requests.Response]:
        """Send one request, with authentication, redirects and retries; yield the response.

        Only the registry itself may ask for a login: a challenge after a redirect to another server is not answered.
        Nor does a login go to another host that ``path`` leads to.

        :raises RegistryError: one of its kinds, for a status that is neither 2xx nor in ``also``.
        """
        with self._respond(request) as response:
            yield response
            if request.method == "HEAD" or response.status_code >= 300:
                drain(response)

    def _respond(self, request: RegistryRequest) -> requests.Response:
        """Return the response that counts: the first, or, after a challenge, the one to a login or a new token."""
        url = seen_from(self.base, request.path)
        own = origin(url) == origin(self.base)
        remembered = self._authentication.remembered(request.scope) if own else Authorization()
        exchange = self._exchange(request, url, remembered)
        challenge = self._challenge(exchange, request.scope)
        if challenge:
            self._refusal(exchange, request.scope)
            authorization = self._authentication.authorize(challenge, request.scope, request.what)
            exchange = self._exchange(request, url, authorization)
        status = exchange.response.status_code
        if status < 300 or status in request.also:
            return exchange.response
        raise self._error(exchange, request)

    def _exchange(self, request: RegistryRequest, url: str, authorization: Authorization) -> _Exchange:
        sent = HttpRequest(
            request.method, url, request.what, request.headers, authorization.header, request.body, request.once
        )
        try:
            response, tries = self.anonymous.send(sent)
        except Unreachable as error:
            raise self._unanswered(error) from error
        at_home = origin(self.base) == origin(url) == origin(response.url)
        return _Exchange(response, tries, authorization, at_home)

    def _challenge(self, exchange: _Exchange, scope: Scope) -> Challenge | None:
        """Return what the registry asks for when it refuses, or, where it only denies or hides, when it is pinged."""
        response = exchange.response
        if not exchange.at_home or response.status_code not in _VEILED:
            return None
        if response.status_code == 401:
            challenge = parse_challenge(response.headers.get("WWW-Authenticate", ""))
            if challenge:
                return challenge
        return None if exchange.authorization.header else self._authentication.ping(self.base, scope)

    def _refusal(self, exchange: _Exchange, scope: Scope) -> ErrorResponse:
        """Read a response that refuses, and give up the login or token that it did not accept."""
        with importing:
            from .error_response import ErrorResponse
        with exchange.response as response:
            refusal = ErrorResponse.of(response)
            drain(response)
        if exchange.at_home and refusal.status == 401 and exchange.authorization.header:
            self._authentication.reject(scope, exchange.authorization, refusal.words)
        return refusal

    def _error(self, exchange: _Exchange, request: RegistryRequest) -> RegistryError:
        """Return what a refusal means, with its status unless it is about the login."""
        refusal, response = self._refusal(exchange, request.scope), exchange.response
        if refusal.status in (401, 403) and not exchange.at_home:
            error = RegistryError(
                f"{self.host} redirects {request.what} to {host_of(response.url)}, which refuses it "
                f"({refusal.words}); the login was not sent there. Try again, or ask whoever runs the registry"
            )
        else:
            sent = exchange.authorization if exchange.at_home else Authorization()
            identity = self._authentication.identity(sent, request.scope)
            error = refusal.error(self.host, request.what, identity, exchange.tries, request.scope.action)
        challenged = refusal.status == 401 and exchange.at_home and response.headers.get("WWW-Authenticate")
        if not (challenged and exchange.authorization.login) or exchange.authorization.identity.accepted:
            error.status = refusal.status
        return error

    def _unanswered(self, error: Unreachable) -> Unreachable:
        """Tell whether somebody is there, and who named no registry which one was asked."""
        with importing:
            from .connection_error import was_connected
        more = ". A name without a registry is one of Docker Hub; write REGISTRY/NAME for another one, or set registry"
        explained = error.with_more(more) if self.host == DOCKER_HUB else error
        explained.status = 0 if was_connected(error) else None
        return explained
