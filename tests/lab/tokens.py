# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A token server for the ``token`` registry: ``python3 -m tests.lab.tokens`` serves until it is stopped.

Follows the registry's token authentication specification (distribution, ``docs/spec/auth/{token,jwt,scope}.md``).
Everybody may pull outside of ``secret/…``; with the lab's login everything is allowed; a wrong login gets 401.
The answer says ``access_token`` when a repository under ``lab/`` is asked for, ``token`` otherwise: both exist.
"""

from __future__ import annotations

import base64
import json
import secrets
import ssl
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from tests.lab import commands, paths
from tests.lab.registry import PASSWORD, TOKEN_ISSUER, TOKEN_PORT, USER

EXPIRES_IN = 300


class WrongLogin(Exception):
    """A login was given and it is not the lab's."""


def issue(scopes: list[str], service: str, authorization: str | None) -> dict[str, object]:
    """The answer to a token request; raise :class:`WrongLogin`."""
    user = _user(authorization)
    access = [_access(scope, user) for scope in scopes]
    token = _signed(
        {
            "iss": TOKEN_ISSUER,
            "sub": user,
            "aud": service,
            "exp": int(time.time()) + EXPIRES_IN,
            "nbf": int(time.time()) - 10,
            "iat": int(time.time()),
            "jti": secrets.token_hex(8),
            "access": access,
        }
    )
    field = "access_token" if any(str(entry["name"]).startswith("lab/") for entry in access) else "token"
    return {field: token, "expires_in": EXPIRES_IN}


def _user(authorization: str | None) -> str:
    """The user name of a Basic authorization, empty for nobody."""
    if not authorization:
        return ""
    kind, _separator, value = authorization.partition(" ")
    try:
        user, _colon, password = base64.b64decode(value, validate=True).decode().partition(":")
    except ValueError as error:
        raise WrongLogin from error
    if kind.lower() != "basic" or (user, password) != (USER, PASSWORD):
        raise WrongLogin
    return user


def _access(scope: str, user: str) -> dict[str, object]:
    """What of ``scope`` (``repository:NAME:ACTION,…``) is granted."""
    kind, _separator, rest = scope.partition(":")
    name, _separator, actions = rest.rpartition(":")
    allowed = {"pull", "push", "delete", "*"} if user else set() if name.startswith("secret/") else {"pull"}
    return {"type": kind, "name": name, "actions": [action for action in actions.split(",") if action in allowed]}


def _signed(claims: dict[str, object]) -> str:
    """A JWT signed by RS256, with the signer's certificate in its header (RFC 7515, section 4.1.6)."""
    certificate = ssl.PEM_cert_to_DER_cert((paths.tls() / "signer.pem").read_text(encoding="ascii"))
    header = {"typ": "JWT", "alg": "RS256", "x5c": [base64.b64encode(certificate).decode()]}
    text = f"{_base64url(json.dumps(header).encode())}.{_base64url(json.dumps(claims).encode())}"
    signature = commands.output_of(["openssl", "dgst", "-sha256", "-sign", paths.tls() / "signer.key"], text.encode())
    return f"{text}.{_base64url(signature)}"


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class TokenRequest(BaseHTTPRequestHandler):
    """Answers ``GET /token?service=…&scope=…``; one log line a request, without the token."""

    timeout = 30
    protocol_version = "HTTP/1.1"
    server_version = "hpc.sregistry-lab-tokens"

    def do_GET(self) -> None:  # the name is the base class's; pylint: disable=invalid-name
        """Answer with a token, or 401 for a wrong login."""
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        scopes = [scope for value in query.get("scope", []) for scope in value.split()]
        if url.path != "/token":
            self._answer(404, {"details": "only /token is here"})
            return
        try:
            answer = issue(scopes, query.get("service", [""])[0], self.headers.get("Authorization"))
        except WrongLogin:
            self._answer(401, {"details": "incorrect username or password"})
            return
        self._answer(200, answer)

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
        """Write to ``logs/tokens.log``: time, remote, user (or -), what the base class says, user agent."""
        login = "with-login" if self.headers.get("Authorization") else "anonymous"
        line = f"{self.log_date_time_string()} {self.client_address[0]} {login} {format % args}"
        with (paths.logs() / "tokens.log").open("a", encoding="utf-8") as log:
            log.write(f'{line} "{self.headers.get("User-Agent", "-")}"\n')


class _TokenServer(ThreadingHTTPServer):
    """TLS handshakes happen in each connection's thread, so that a silent client blocks nobody."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", TOKEN_PORT), TokenRequest)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(paths.tls() / "server.pem", paths.tls() / "server.key")
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away, or that does not trust the CA, is no error of the server."""


if __name__ == "__main__":
    _TokenServer().serve_forever()
