# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server that has a login says it again, wherever a server can say something: no message shows it."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal import secrecy
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import RegistryError
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.reference import Reference
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.registry.web import Web
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.text import printable, shown
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.transport.keychain import Keychain, Login
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.transport.options import Transport
from ansible_collections.hpc.sregistry.tests.unit.plugins.module_utils.conftest import Connect
from ansible_collections.hpc.sregistry.tests.unit.plugins.module_utils.raw import RawServer

from tests.faults import Fault, FaultyRegistry, faults

PASSWORD = "pa ss/w%rd+é"
BASIC = base64.b64encode(f"ann:{PASSWORD}".encode()).decode()
FORMS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "quoted": quote,
    "quoted wholly": lambda text: quote(text, safe=""),
    "in small letters": lambda text: quote(text, safe="").replace("%2F", "%2f").replace("%2B", "%2b"),
    "as of a form": quote_plus,
    "quoted twice": lambda text: quote(quote(text, safe="")),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64 for addresses": lambda text: base64.urlsafe_b64encode(text.encode()).decode().rstrip("="),
    "Basic": lambda text: base64.b64encode(f"ann:{text}".encode()).decode(),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_a_secret_is_masked_in_each_form(form: Callable[[str], str]) -> None:
    Login("ann", PASSWORD)
    assert shown(f"begin {form(PASSWORD)} end, 100%") == "begin ******** end, 100%"


def test_of_a_secret_that_a_cut_would_go_through_nothing_is_left() -> None:
    Login("ann", PASSWORD)
    assert shown("x" * 295 + PASSWORD) == "x" * 295 + "*****…"


def test_the_longest_secret_is_masked_first() -> None:
    secrecy.hide("abc")
    secrecy.hide("abcdef")
    assert secrecy.masked("abcdef abc") == "******** ********"


def test_what_is_used_is_not_masked() -> None:
    Login("ann", "docker")
    assert printable("application/vnd.docker.container.image.v1+json") == (
        "application/vnd.docker.container.image.v1+json"
    )


def test_quoting_without_a_secret_in_it_stays() -> None:
    Login("ann", PASSWORD)
    assert shown("https://h/a%2Fb+c") == "https://h/a%2Fb+c"


# A registry

WORDS: dict[str, Callable[[str], Fault]] = {
    "error": lambda secret: faults.status(403, message=f"user ann, {secret}"),
    "retry after": lambda secret: faults.status(429, {"Retry-After": secret}),
    "limit": lambda secret: faults.status(429, {"Retry-After": "9999", "ratelimit-limit": secret}),
    "location": lambda secret: faults.status(302, {"Location": f"ftp://h/{secret}"}),
    "location of nobody": lambda secret: faults.status(302, {"Location": f"http://127.0.0.1:1/{secret}?{secret}"}),
    "host of a location": lambda secret: faults.status(302, {"Location": f"http://{secret}.invalid:1/"}),
    "port of a location": lambda secret: faults.status(302, {"Location": f"http://h:{secret}/"}),
    "digest": lambda secret: faults.header("Docker-Content-Digest", secret),
    "encoding": lambda secret: faults.header("Content-Encoding", secret),
    "realm": lambda secret: faults.status(401, {"WWW-Authenticate": f'Bearer realm="ftp://{secret}/"'}),
}


@pytest.mark.parametrize("form", ["as it is", "quoted wholly", "in small letters", "Basic"])
@pytest.mark.parametrize("what", [*WORDS, "tags"])
def test_no_word_of_a_registry_shows_the_login(
    what: str, form: str, faulty: FaultyRegistry, connect: Connect, tmp_path: Path
) -> None:
    password = "pa:ss/w@rd+x"
    path = tmp_path / "config.json"
    entry = {"auth": base64.b64encode(f"ann:{password}".encode()).decode()}
    path.write_text(json.dumps({"auths": {faulty.address: entry}}))
    said = FORMS[form](password)
    basic = faults.basic("ann", password)
    faulty.when("/manifests/", faults.challenged("Basic", {basic}), times=1)
    if what in WORDS:
        faulty.when("/manifests/", WORDS[what](said))
    faulty.when("/tags/", faults.document({"tags": [said]}))
    session = connect(faulty.address, keychain=Keychain(authfile=str(path)), retries=0)
    message = ""
    try:
        session.get(Reference.parse(f"{faulty.address}/team/tiny:{'0' if what == 'tags' else '1.0'}"))
    except RegistryError as error:
        message = str(error)
    assert basic in {each.headers.get("authorization") for each in faulty.requests}
    assert message or what == "digest", "there is something to look at"
    assert said not in message
    assert password not in message


def test_no_status_line_shows_a_token(connect: Connect) -> None:
    def talk(connection: socket.socket, _number: int) -> None:
        while line := server.heard(connection):
            body = b'{"token":"t0ken-0f-ann"}'
            if "/token" in line:
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            elif not server.lines[1:]:
                challenge = f'Bearer realm="http://{server.address}/token"'
                connection.sendall(
                    f"HTTP/1.1 401 No\r\nWWW-Authenticate: {challenge}\r\nContent-Length: 0\r\n\r\n".encode()
                )
            else:
                connection.sendall(b"HTTP/1.1 t0ken-0f-ann\r\n\r\n")

    with RawServer(talk) as server:
        session = connect(server.address, retries=0)
        with pytest.raises(RegistryError, match=r"no answer from .*\*{8}") as caught:
            session.get(Reference.parse(f"{server.address}/team/tiny:1"))
    assert "t0ken" not in str(caught.value)


def test_what_a_web_server_tells_of_a_file_holds_no_password(faulty: FaultyRegistry) -> None:
    faulty.when(
        "/a.sif",
        faults.together(
            faults.challenged("Basic", {faults.basic("ann", "s3cret")}), faults.served(b"SIF", etag='"s3cret"')
        ),
    )
    web = Web(Keychain(Login("ann", "s3cret")), Transport(http=True))
    download = web.head(Reference.parse(f"{faulty.url}/a.sif"))
    web.close()
    assert download.validators["etag"] == '"********"'
