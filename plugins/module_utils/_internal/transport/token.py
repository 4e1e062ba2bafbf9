# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bearer tokens, and the server that gives them for a login or for none.

Source: distribution, ``docs/content/spec/auth/token.md`` (GET with Basic) and ``oauth.md`` (POST with an identity
token, which is an OAuth2 refresh token).

A request for a token is tried again like any other, in ``http.py``. A request to the registry is sent again with a new
token in ``token_retry.py``. Tokens are kept, and renewed before they end, in ``auth.py``.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from ..errors import RegistryError
from ..late import importing
from ..secrecy import hide
from .challenge import Challenge
from .http import Connections, HttpRequest
from .keychain import Login
from .response import content, drain
from .url import host_of, is_web_address, redacted

if TYPE_CHECKING:
    import requests

    from .error_response import ErrorResponse

NO_SUCH_METHOD = frozenset({404, 405, 501})
"""Statuses of a server that takes no identity tokens."""

_MAX_ANSWER = 4 * 1024 * 1024  # bytes
_VALUE = re.compile(r"[!-~]+")
_LIFETIME = 60.0  # seconds, where the server tells none
_MAX_LIFETIME = 86400.0  # seconds


@dataclass(frozen=True)
class Token:
    """A bearer token, and the seconds that it lives."""

    value: str = field(repr=False)
    lifetime: float

    def __post_init__(self) -> None:
        hide(self.value)


@dataclass(frozen=True)
class Scope:
    """The rights of a token: to read a repository, or also to write it, with blobs of another one (``mount_from``).

    ``more`` are scopes that the registry asks for besides. They come first, since some token servers look at one only.
    """

    repository: str
    writes: bool = False
    mount_from: str = ""
    more: tuple[str, ...] = ()

    @property
    def action(self) -> str:
        """The word for what it allows: ``pull`` or ``push``."""
        return "push" if self.writes else "pull"

    @property
    def parts(self) -> tuple[str, ...]:
        """Each scope by itself, as a token server wants it."""
        own = f"repository:{self.repository}:{'pull,push' if self.writes else 'pull'}"
        return (*self.more, own, *((f"repository:{self.mount_from}:pull",) if self.mount_from else ()))

    def __str__(self) -> str:
        return " ".join(self.parts)


@dataclass(frozen=True)
class TokenServer:
    """The server that a registry names in its challenge."""

    registry: str
    realm: str
    service: str

    @classmethod
    def of(cls, challenge: Challenge, registry: str) -> TokenServer:
        """Read the server from a challenge.

        :raises RegistryError: if the challenge names no server.
        """
        realm = challenge.parameters.get("realm", "")
        if not is_web_address(realm):
            raise RegistryError(
                f"{registry} asks for a token, but names no server to get it from (realm {redacted(realm)!r})"
            )
        return cls(registry, realm, challenge.parameters.get("service", ""))

    def get_token(
        self, connections: Connections, scope: Scope, login: Login | None, what: str
    ) -> tuple[Token | ErrorResponse, int]:
        """Return a token for a scope, or what the server said instead; and how often it was asked.

        :raises RegistryError: if there is no answer, or one without a token.
        """
        what = f"a token for {what}"
        if login and login.identity_token:
            response, tries = self._exchange(connections, scope, login.identity_token, what)
            if response.status_code in NO_SUCH_METHOD and login.password:
                drain(response)
                response, tries = self._get(connections, scope, login, what)
        else:
            response, tries = self._get(connections, scope, login, what)
        with response:
            if response.status_code >= 300:
                with importing:
                    from .error_response import ErrorResponse
                return ErrorResponse.of(response), tries
            return self._read(response, what), tries

    def _get(
        self, connections: Connections, scope: Scope, login: Login | None, what: str
    ) -> tuple[requests.Response, int]:
        query = [("scope", part) for part in scope.parts]
        if self.service:
            query.append(("service", self.service))
        url = f"{self.realm}{'&' if '?' in self.realm else '?'}{urlencode(query)}"
        return connections.send(HttpRequest("GET", url, what, authorization=login.basic if login else None))

    def _exchange(
        self, connections: Connections, scope: Scope, identity_token: str, what: str
    ) -> tuple[requests.Response, int]:
        form = {
            "grant_type": "refresh_token",
            "refresh_token": identity_token,
            "service": self.service,
            "client_id": connections.user_agent,
            "scope": str(scope),
        }
        return connections.send(HttpRequest("POST", self.realm, what, content=form))

    def _read(self, response: requests.Response, what: str) -> Token:
        try:
            answer = json.loads(content(response, _MAX_ANSWER, what))
            value = answer.get("token") or answer["access_token"]
            if not (isinstance(value, str) and _VALUE.fullmatch(value)):
                raise ValueError("no text that can stand in a header")
            return Token(value, lifetime(answer.get("expires_in")))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise RegistryError(
                f"the token server {host_of(self.realm)} of {self.registry} sent no token for {what}"
            ) from error


def lifetime(expires_in: Any) -> float:
    """Return the seconds that a token is kept, from its ``expires_in``.

    :raises TypeError, ValueError: if that is not a number.
    """
    try:
        seconds = float(expires_in or _LIFETIME)
    except OverflowError:
        seconds = _LIFETIME
    return _LIFETIME if math.isnan(seconds) else min(max(seconds, 0.0), _MAX_LIFETIME)
