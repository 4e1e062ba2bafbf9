# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A token server for the ``token`` registry: ``python3 -m tests.lab.tokens`` serves until it is stopped.

Follows the registry's token authentication specification (distribution, ``docs/spec/auth/{token,jwt,scope,oauth}.md``).
Everybody may pull outside of ``secret/…``; who may do more is in :data:`ACCOUNTS`; a wrong login gets 401.
The answer to a GET says ``access_token`` for repositories under ``lab/``, ``token`` otherwise: both exist.
"""

from __future__ import annotations

import base64
import json
import secrets
import ssl
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import jwt

from tests.lab import paths
from tests.lab.registry import PASSWORD, TOKEN_ISSUER, TOKEN_PORT, USER

EXPIRES_IN = 300
LEEWAY = 60  # seconds that the registry accepts a token beyond its end (distribution, registry/auth/token/token.go)
MAX_FORM = 65536  # bytes


@dataclass(frozen=True)
class Account:
    """Somebody the server knows.

    ``seconds`` is how long the registry takes the tokens for, ``told`` what the answer says of it. ``expired`` is a
    login that was good once.
    """

    password: str
    identity_token: str
    may_pull_secrets: bool = True
    expired: bool = False
    seconds: int = EXPIRES_IN + LEEWAY
    told: int = EXPIRES_IN


ACCOUNTS = {
    USER: Account(PASSWORD, "lab-identity-token"),
    "guest": Account("guest-secret", "guest-identity-token", may_pull_secrets=False),
    "former": Account("former-secret", "former-identity-token", expired=True),
    # tokens that end sooner than the server says, and tokens of which it says so
    "hasty": Account("hasty-secret", "hasty-identity-token", seconds=2),
    "brief": Account("brief-secret", "brief-identity-token", seconds=3, told=2),
}


class WrongLogin(Exception):
    """A login was given and it is not one of the lab's, or not any more."""


def issue(scopes: list[str], service: str, user: str) -> dict[str, object]:
    """Return the answer to a token request.

    :param user: empty for nobody.
    """
    account = ACCOUNTS.get(user)
    access = [_access(scope, account) for scope in scopes]
    now = int(time.time())
    token = _signed(
        {
            "iss": TOKEN_ISSUER,
            "sub": user,
            "aud": service,
            "exp": now + (account.seconds if account else EXPIRES_IN + LEEWAY) - LEEWAY,
            "nbf": now - 10,
            "iat": now,
            "jti": secrets.token_hex(8),
            "access": access,
        }
    )
    field = "access_token" if any(str(entry["name"]).startswith("lab/") for entry in access) else "token"
    return {field: token, "expires_in": account.told if account else EXPIRES_IN}


def user_of_basic(authorization: str | None) -> str:
    """Return the user name of a Basic authorization, empty for nobody; raise :class:`WrongLogin`."""
    if not authorization:
        return ""
    kind, _separator, value = authorization.partition(" ")
    try:
        user, _colon, password = base64.b64decode(value, validate=True).decode().partition(":")
    except ValueError as error:
        raise WrongLogin("malformed login") from error
    account = ACCOUNTS.get(user)
    if kind.lower() != "basic" or account is None or account.password != password:
        raise WrongLogin("incorrect username or password")
    if account.expired:
        raise WrongLogin("the login has expired")
    return user


def _access(scope: str, account: Account | None) -> dict[str, object]:
    """Return the part of ``scope`` (``repository:NAME:ACTION,…``) that is granted."""
    kind, _separator, rest = scope.partition(":")
    name, _separator, actions = rest.rpartition(":")
    if account and account.may_pull_secrets:
        allowed = {"pull", "push", "delete", "*"}
    else:
        allowed = set() if name.startswith("secret/") else {"pull"}
    return {"type": kind, "name": name, "actions": [action for action in actions.split(",") if action in allowed]}


def _signed(claims: dict[str, object]) -> str:
    """Return a JWT signed by RS256, with the signer's certificate in its header (RFC 7515, section 4.1.6)."""
    certificate = ssl.PEM_cert_to_DER_cert((paths.tls() / "signer.pem").read_text(encoding="ascii"))
    key = (paths.tls() / "signer.key").read_bytes()
    return jwt.encode(claims, key, "RS256", {"x5c": [base64.b64encode(certificate).decode()]})


class TokenRequest(BaseHTTPRequestHandler):
    """Answers GET and POST of ``/token``; one log line a request, without login and token."""

    timeout = 30
    protocol_version = "HTTP/1.1"
    server_version = "hpc.sregistry-lab-tokens"
    server: _TokenServer
    login = "anonymous"

    def do_GET(self) -> None:  # the name is the base class's; pylint: disable=invalid-name
        """Answer with a token, and a refresh token if ``offline_token=true``; 401 for a wrong login."""
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        scopes = [scope for value in query.get("scope", []) for scope in value.split()]
        service = query.get("service", [""])[0]
        self.login = "with-login" if self.headers.get("Authorization") else "anonymous"
        if url.path != "/token":
            self._answer(404, {"details": "only /token is here"})
            return
        try:
            user = user_of_basic(self.headers.get("Authorization"))
        except WrongLogin as error:
            self._answer(401, {"details": str(error)})
            return
        answer = issue(scopes, service, user)
        if user and query.get("offline_token") == ["true"]:
            answer["refresh_token"] = self.server.refresh_token(user)
        self._answer(200, answer)

    def do_POST(self) -> None:  # the name is the base class's; pylint: disable=invalid-name
        """Answer, by OAuth2, with an access token for a refresh token, or for user name and password."""
        form = parse_qs(self.rfile.read(min(MAX_FORM, int(self.headers.get("Content-Length", "0")))).decode())
        given = {key: values[0] for key, values in form.items()}
        self.login = str(given.get("grant_type", "-"))
        if self.path != "/token":
            self._answer(404, {"details": "only /token is here"})
            return
        if not (given.get("service") and given.get("client_id")):
            self._answer(400, {"error": "invalid_request", "error_description": "service and client_id are required"})
            return
        try:
            user = self._user_of(given)
        except WrongLogin as error:
            self._answer(401, {"details": str(error)})
            return
        if user is None:
            self._answer(400, {"error": "invalid_grant", "error_description": "unknown refresh token"})
            return
        scope = given.get("scope", "")
        answer = issue(scope.split(), given["service"], user)
        answer = {"access_token": next(iter(answer.values())), "expires_in": answer["expires_in"], "scope": scope}
        if given["grant_type"] == "refresh_token":
            answer["refresh_token"] = given["refresh_token"]
        elif given.get("access_type") == "offline":
            answer["refresh_token"] = self.server.refresh_token(user)
        self._answer(200, answer)

    def _user_of(self, given: dict[str, str]) -> str | None:
        """Return the user of a grant; None for a refresh token that nobody has. Raise :class:`WrongLogin`."""
        if given.get("grant_type") == "refresh_token":
            user = self.server.refresh_tokens.get(given.get("refresh_token", ""))
            if user and ACCOUNTS[user].expired:
                raise WrongLogin("the refresh token has expired")
            return user
        if given.get("grant_type") == "password":
            pair = f"{given.get('username', '')}:{given.get('password', '')}"
            return user_of_basic("Basic " + base64.b64encode(pair.encode()).decode())
        return None

    def _answer(self, status: int, document: dict[str, object]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if status == 401:
            self.send_header("WWW-Authenticate", 'Basic realm="hpc.sregistry lab tokens"')
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # pylint: disable=redefined-builtin
        """Write to ``logs/tokens.log``: time, remote, kind of login, what the base class says, user agent."""
        line = f"{self.log_date_time_string()} {self.client_address[0]} {self.login} {format % args}"
        with (paths.logs() / "tokens.log").open("a", encoding="utf-8") as log:
            log.write(f'{line} "{self.headers.get("User-Agent", "-")}"\n')


class _TokenServer(ThreadingHTTPServer):
    """TLS handshakes happen in each connection's thread, so that a silent client blocks nobody."""

    daemon_threads = True

    def __init__(self) -> None:
        self.refresh_tokens = {account.identity_token: user for user, account in ACCOUNTS.items()}
        super().__init__(("127.0.0.1", TOKEN_PORT), TokenRequest)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(paths.tls() / "server.pem", paths.tls() / "server.key")
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def refresh_token(self, user: str) -> str:
        """Issue a new refresh token for a user, as good as the well-known one."""
        token = secrets.token_urlsafe(24)
        self.refresh_tokens[token] = user
        return token

    def handle_error(self, request: object, client_address: object) -> None:
        """Pass over a client that goes away, or that does not trust the CA: the server works."""


if __name__ == "__main__":
    _TokenServer().serve_forever()
