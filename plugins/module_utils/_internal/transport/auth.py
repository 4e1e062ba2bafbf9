# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Logins and tokens for one registry: its challenge is remembered, and answered with a login, a token, or neither.

A request is sent again with a new token in ``token_retry.py``; how a token is asked for is in ``token.py``.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ..errors import CredentialsError, RegistryError
from .challenge import BASIC, Challenge, parse_challenge
from .http import Connections, HttpRequest
from .identity import Identity
from .keychain import Credentials, Keychain, Login
from .response import drain
from .token import NO_SUCH_METHOD, Scope, Token, TokenServer
from .url import origin, redacted

if TYPE_CHECKING:
    from .error_response import ErrorResponse

_MAX_MORE = 8  # scopes of one repository that a registry may ask for
_USED = 0.8  # of its lifetime; a token that ends while a request is on its way would cost a round trip more


@dataclass(frozen=True)
class Authorization:
    """The login or token of a request: its header, or None; in whose name that is; the login behind it."""

    header: str | None = field(default=None, repr=False)
    identity: Identity = field(default_factory=Identity)
    login: Login | None = None


@dataclass(frozen=True)
class _Held:
    authorization: Authorization
    expires: float


class Authentication:
    """All logins and tokens of one session to one registry."""

    def __init__(self, registry: str, keychain: Keychain, connections: Connections, secure: bool) -> None:
        """
        :param registry: as in a reference.
        :param secure: whether it is asked by TLS, so that a login must not leave without.
        """
        self._registry = registry
        self._keychain = keychain
        self._connections = connections
        self._secure = secure
        self._lock = threading.Lock()
        self._challenge: Challenge | None = None
        self._pinged: Challenge | None = None
        self._has_pinged, self._pinging = False, threading.Lock()
        self._more: dict[Scope, tuple[str, ...]] = {}
        self._held: dict[Scope, _Held] = {}
        self._refused: dict[tuple[Login, str], str] = {}  # for one repository, or, with an empty name, for all

    def remembered(self, scope: Scope) -> Authorization:
        """Return what a request can carry at once, because an earlier answer taught it.

        :raises RegistryError, CredentialsError: as :meth:`authorize`.
        """
        with self._lock:
            challenge = self._challenge
        if challenge:
            return self.authorize(challenge, scope, f"{self._registry}/{scope.repository}")
        return Authorization()

    def authorize(self, challenge: Challenge, scope: Scope, what: str) -> Authorization:
        """Return what a request must carry, after what the registry asks for.

        :raises Unauthorized, Denied: if its token server gives no token, neither for the login nor for anonymous users.
        :raises RegistryError: if that server cannot be asked.
        :raises CredentialsError: if the authfile cannot be read or understood.
        """
        with self._lock:
            self._challenge = Challenge(challenge.scheme, {**challenge.parameters, "scope": ""})
            more = dict.fromkeys((*_others(challenge, scope), *self._more.get(scope, ())))
            if len(more) > len(self._more.get(scope, ())):
                self._more[scope] = tuple(more)[:_MAX_MORE]
                self._held.pop(scope, None)
        known = self._keychain.credentials(self._registry, scope.repository)
        if challenge.scheme == BASIC:
            return self._basic(known, scope.repository)
        if known.login and known.login.registry_token:
            return Authorization(f"Bearer {known.login.registry_token}", _identity(known), known.login)
        with self._lock:
            held = self._held.get(scope)
        if held and time.monotonic() < held.expires:
            return held.authorization
        with self._lock:
            wanted = replace(scope, more=self._more.get(scope, ()))
        authorization, seconds = self._bearer(TokenServer.of(challenge, self._registry), wanted, known, what)
        with self._lock:
            self._held[scope] = _Held(authorization, time.monotonic() + seconds * _USED)
        return authorization

    def ping(self, base: str, scope: Scope) -> Challenge | None:
        """Return what ``/v2/`` asks for, where a login is at hand that nobody has asked for; it is asked once.

        The scope that stands there is that of no repository: registries write ``registry:catalog:*`` for it, or
        ``repository:user/image:pull``.

        :param base: the URL of ``/v2/``.
        """
        try:
            if not self._keychain.credentials(self._registry, scope.repository).login:
                return None
        except CredentialsError:  # what a login would open is not known
            return None
        with self._pinging:
            if not self._has_pinged:
                self._pinged, self._has_pinged = self._ping(base), True
            return self._pinged

    def _ping(self, base: str) -> Challenge | None:
        try:
            response, _tries = self._connections.send(HttpRequest("GET", base, f"what {self._registry} asks for"))
        except RegistryError:
            return None
        with response:
            drain(response)
        if response.status_code != 401 or origin(response.url) != origin(base):
            return None
        challenge = parse_challenge(response.headers.get("WWW-Authenticate", ""))
        return Challenge(challenge.scheme, {**challenge.parameters, "scope": ""}) if challenge else None

    def identity(self, authorization: Authorization, scope: Scope) -> Identity:
        """Return in whose name a request was made that carried this, and, if in nobody's, why."""
        if authorization.header or authorization.identity != Identity():
            return authorization.identity
        try:
            known = self._keychain.credentials(self._registry, scope.repository)
        except CredentialsError as error:
            return Identity(lacking=str(error))
        return Identity(lacking=f"{self._registry} does not ask for {known.source}" if known.login else known.lacking)

    def reject(self, scope: Scope, authorization: Authorization, words: str) -> None:
        """Give up what the registry did not accept, unless another thread has renewed it meanwhile.

        :param words: with which it was refused.
        """
        with self._lock:
            held = self._held.get(scope)
            if held and held.authorization.header == authorization.header:
                del self._held[scope]
            login = authorization.login
            if login and authorization.header == login.basic and not authorization.identity.given:
                self._refused[login, scope.repository] = words  # it may open another one

    def warnings(self, repository: str) -> list[str]:
        """Return what the user must know though all went well: a login that was not accepted."""
        with self._lock:
            if not self._refused:  # nor is the keychain asked for nothing
                return []
        known = self._keychain.credentials(self._registry, repository)
        words = self._refusal_of(known.login, repository)
        return [f"{self._registry} did not accept {known.source} ({words}); it was asked as anonymous"] if words else []

    def _refusal_of(self, login: Login | None, repository: str) -> str | None:
        if not login:
            return None
        with self._lock:
            return self._refused.get((login, "")) or self._refused.get((login, repository))

    def _basic(self, known: Credentials, repository: str) -> Authorization:
        login, refusal = known.login, self._refusal_of(known.login, repository)
        if not login:
            return Authorization(identity=_identity(known))
        if refusal:
            return Authorization(identity=_identity_after(known, refusal))
        if not login.basic:
            lacking = f"{known.source} is a token, and {self._registry} wants user name and password"
            return Authorization(identity=Identity(lacking=lacking))
        return Authorization(login.basic, _identity(known), login)

    def _bearer(self, server: TokenServer, scope: Scope, known: Credentials, what: str) -> tuple[Authorization, float]:
        """Return a token and the seconds that it lives.

        It is one for the login. Without a login, or if that was only found in a file and is not accepted, it is one
        for anonymous users.
        """
        identity, refusal = _identity(known), self._refusal_of(known.login, scope.repository)
        if known.login and not refusal:
            if self._secure and not server.realm.startswith("https:"):
                raise RegistryError(
                    f"{self._registry} wants the login sent to {redacted(server.realm)} without TLS; it was not sent"
                )
            answer, tries = self._token(server, scope, known.login, what)
            if isinstance(answer, Token):
                accepted = replace(identity, accepted=True)
                return Authorization(f"Bearer {answer.value}", accepted, known.login), answer.lifetime
            if known.given or not _is_about_login(answer, known.login):
                raise answer.error(self._registry, what, identity, tries, scope.action)
            refusal = answer.words
            with self._lock:
                self._refused[known.login, scope.repository if answer.status == 403 else ""] = refusal
        if refusal:
            identity = _identity_after(known, refusal)
        answer, tries = self._token(server, scope, None, what)
        if isinstance(answer, Token):
            return Authorization(f"Bearer {answer.value}", identity), answer.lifetime
        raise answer.error(self._registry, what, identity, tries, scope.action)

    def _token(
        self, server: TokenServer, scope: Scope, login: Login | None, what: str
    ) -> tuple[Token | ErrorResponse, int]:
        """Return a token for all that the registry wants; where that is refused, one for what was asked of it."""
        answer, tries = server.get_token(self._connections, scope, login, what)
        if isinstance(answer, Token) or not scope.more or (login and answer.status == 401):
            return answer, tries
        return server.get_token(self._connections, replace(scope, more=()), login, what)


def _others(challenge: Challenge, scope: Scope) -> list[str]:
    """Return the scopes that a challenge names beside our own."""
    own = {name: set(actions.split(",")) for name, _colon, actions in (part.rpartition(":") for part in scope.parts)}
    others = []
    for part in challenge.parameters.get("scope", "").split():
        name, _colon, actions = part.rpartition(":")
        if not set(actions.split(",")) <= own.get(name, set()):
            others.append(part)
    return others


def _identity(known: Credentials) -> Identity:
    return Identity(login=known.source, given=known.given, lacking=known.lacking)


def _identity_after(known: Credentials, refusal: str) -> Identity:
    return Identity(refused=f"{known.source} ({refusal})")


def _is_about_login(refusal: ErrorResponse, login: Login) -> bool:
    """Tell whether a token server refuses the login, rather than being in trouble.

    For an identity token this is 400 (RFC 6749, section 5.2), or that it takes none at all.
    """
    if refusal.status in (401, 403):
        return True
    return bool(login.identity_token) and (refusal.status == 400 or refusal.status in NO_SUCH_METHOD)
