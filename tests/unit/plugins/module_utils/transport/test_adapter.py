# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bytes that really go over a connection, and come over it: byte by byte, late, cut, or by way of a proxy."""

from __future__ import annotations

import hashlib
import itertools
import socket
import ssl
import time
from pathlib import Path

import pytest
import requests
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import (
    CertificateError,
    RegistryError,
    TooSlow,
    Unreachable,
)
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.blobs import BlobCache
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.descriptor import Descriptor
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.transport import adapter
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.transport.http import Connections, HttpRequest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.transport.options import Transport
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.transport.response import chunks
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.transport.url import seen_from
from ansible_collections.hpc.sregistry.tests.unit.plugins.module_utils.conftest import Connect
from ansible_collections.hpc.sregistry.tests.unit.plugins.module_utils.raw import RawServer

sleep = time.sleep  # which other tests replace, and this module needs as it is
BLOB = bytes(range(256)) * 40
DIGEST = f"sha256:{hashlib.sha256(BLOB).hexdigest()}"


def answer(body: bytes = b"", status: str = "200 OK", *headers: str, length: int | None = None) -> bytes:
    """Return an answer as it goes over the wire."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def ask(url: str, method: str = "GET", **how: object) -> bytes:
    """Return the body of what is behind a URL."""
    connections = Connections(Transport(**{"timeout": 20.0, "retries": 0, **how}))  # type: ignore[arg-type]
    try:
        with connections.send(HttpRequest(method, url, "it"))[0] as response:
            return b"".join(chunks(response, "it"))
    finally:
        connections.close()


def read(response: requests.Response) -> tuple[bytes, RegistryError | None]:
    """Return the pieces of a body, and what ends it."""
    came: list[bytes] = []
    try:
        for chunk in chunks(response, "it"):
            came.append(chunk)  # one by one, as they come
    except RegistryError as error:
        return b"".join(came), error
    return b"".join(came), None


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the clock by one where each look at it takes ten seconds."""
    monkeypatch.setattr(adapter, "_clock", itertools.count(0.0, 10.0).__next__)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


# Addresses


@pytest.mark.parametrize(
    ("location", "asked"),
    [
        ("/x%7Ey%2D?sig=%2d%2D%7e~&e=a%2Fb", "/x%7Ey%2D?sig=%2d%2D%7e~&e=a%2Fb"),
        ("http://{host}/x%7Ey?sig=%7E", "/x%7Ey?sig=%7E"),
        ("//{host}/a%2fb?x=1", "/a%2fb?x=1"),
        ("http://{host}//bucket//a/../b/./c", "//bucket//a/../b/./c"),
        ('/100%?q=50%&r=[1]|{{}}"<>^`', '/100%?q=50%&r=[1]|{{}}"<>^`'),
        ("http://{host}?sig=%7e", "/?sig=%7e"),
        ("http://{host}/x?", "/x?"),
        ("/x;a=b,c?d=e#fragment", "/x;a=b,c?d=e"),
        ("y%7e?s=%7e", "/v2/y%7e?s=%7e"),
        ("/a b?c d", "/a%20b?c%20d"),
        ("/\xc3\xa4", "/%C3%A4"),
    ],
)
def test_the_address_of_a_redirect_goes_out_byte_by_byte(location: str, asked: str) -> None:
    def talk(connection: socket.socket, _number: int) -> None:
        while line := server.heard(connection):
            away = "/v2/start" in line
            target = location.replace("{host}", server.address).replace("{{}}", "{}")
            connection.sendall(
                answer(b"", "307 Temporary Redirect", f"Location: {target}") if away else answer(b"there")
            )

    with RawServer(talk) as server:
        assert ask(f"http://{server.address}/v2/start") == b"there"
    assert server.lines == ["GET /v2/start HTTP/1.1", f"GET {asked.replace('{{}}', '{}')} HTTP/1.1"]


def test_a_proxy_gets_the_whole_address_as_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    def talk(connection: socket.socket, _number: int) -> None:
        while server.heard(connection):
            connection.sendall(answer(b"there"))

    with RawServer(talk) as server:
        monkeypatch.setenv("http_proxy", f"http://{server.address}")
        assert ask("http://registry.invalid:81/x%7E?sig=%2d") == b"there"
    assert server.lines == ["GET http://registry.invalid:81/x%7E?sig=%2d HTTP/1.1"]


def test_what_is_relative_to_a_path_is_resolved() -> None:
    assert seen_from("https://h:5/v2/a/b?x", "../c%7e?y") == "https://h:5/v2/c%7e?y"


# Time


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize("endless", [b"x", b"\r\nHTTP/1.1 100 Continue\r\n"], ids=["headers", "100"])
def test_headers_that_never_end_are_given_up_and_not_asked_for_again(endless: bytes, pauses: list[float]) -> None:
    def talk(connection: socket.socket, _number: int) -> None:
        server.heard(connection)
        connection.sendall(b"HTTP/1.1 100 Continue\r\n" if b"100" in endless else b"HTTP/1.1 200 OK\r\n")
        while True:
            connection.sendall(endless)
            sleep(0.001)

    with RawServer(talk) as server:
        with pytest.raises(TooSlow, match=r"no answer from 127.*: its headers do not end within 80 s; check"):
            ask(f"http://{server.address}/", retries=3)
        assert server.connections == 1
    assert pauses == []


def test_headers_that_come_in_time_are_waited_for() -> None:
    def talk(connection: socket.socket, _number: int) -> None:
        server.heard(connection)
        for byte in b"HTTP/1.1 100 Continue\r\n\r\n" + answer(b"there"):
            connection.sendall(bytes((byte,)))

    with RawServer(talk) as server:
        assert ask(f"http://{server.address}/") == b"there"


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_body_that_trickles_is_given_up_and_what_came_of_it_is_kept(chunked: bool) -> None:
    sent: list[bytes] = []

    def talk(connection: socket.socket, _number: int) -> None:
        server.heard(connection)
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" if chunked else answer(length=10_000)
        connection.sendall(head)
        for number in itertools.count():
            sent.append(bytes((number % 256,)))
            connection.sendall(b"1\r\n" + sent[-1] + b"\r\n" if chunked else sent[-1])
            sleep(0.001)

    with RawServer(talk) as server:
        connections = Connections(Transport(timeout=20.0))
        response = connections.send(HttpRequest("GET", f"http://{server.address}/", "it"))[0]
        came, error = read(response)
        connections.close()
    assert isinstance(error, TooSlow)
    assert "sends it too slowly: it sends less than 64 KiB in 120 s" in str(error)
    assert came
    assert b"".join(sent).startswith(came)


@pytest.mark.usefixtures("hurry")
@pytest.mark.parametrize("ending", [b"X: %s\r\n", b"1;%s\r\nx\r\n"], ids=["trailers", "extensions"])
def test_what_frames_a_body_is_no_progress(ending: bytes) -> None:
    def talk(connection: socket.socket, _number: int) -> None:
        server.heard(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        connection.sendall(b"0\r\n" if b"X" in ending else b"")
        for _time in range(100):
            connection.sendall(ending % (b"y" * 50_000))
        connection.sendall(b"\r\n" if b"X" in ending else b"0\r\n\r\n")

    with RawServer(talk) as server:
        connections = Connections(Transport(timeout=20.0))
        came, error = read(connections.send(HttpRequest("GET", f"http://{server.address}/", "it"))[0])
        connections.close()
    assert isinstance(error, TooSlow)
    assert came.startswith(b"hello")


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\n", b"there"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n", b"5\r\nthere\r\n0\r\n\r\n"),
        (b"HTTP/1.0 200 OK\r\n", b"there"),
    ],
    ids=["early hints", "a length that chunks overrule", "1.0"],
)
def test_an_answer_is_read_as_the_protocol_says(head: bytes, body: bytes) -> None:
    def talk(connection: socket.socket, _number: int) -> None:
        server.heard(connection)
        length = 50 if b"chunked" in head else 5
        connection.sendall(head + b"Content-Length: %d\r\n\r\n" % length + body)

    with RawServer(talk) as server:
        assert ask(f"http://{server.address}/") == b"there"


def test_what_came_before_a_silence_is_kept() -> None:
    def talk(connection: socket.socket, _number: int) -> None:
        server.heard(connection)
        connection.sendall(answer(BLOB, length=len(BLOB) + 1))
        connection.recv(1)

    with RawServer(talk) as server:
        connections = Connections(Transport(timeout=2.0))
        response = connections.send(HttpRequest("GET", f"http://{server.address}/", "it"))[0]
        came, error = read(response)
        connections.close()
    assert "timed out" in str(error)
    assert came == BLOB


@pytest.mark.usefixtures("hurry")
def test_a_blob_that_trickles_is_continued_by_another_request(tmp_path: Path, connect: Connect) -> None:
    asked: list[int] = []

    def talk(connection: socket.socket, number: int) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += connection.recv(1)
        span = head.decode().lower().partition("range: bytes=")[2].partition("-")[0]
        begin = int(span or 0)
        asked.append(begin)
        if number == 1:
            connection.sendall(answer(length=len(BLOB)))
            for byte in BLOB:
                connection.sendall(bytes((byte,)))
                sleep(0.001)
        part = f"Content-Range: bytes {begin}-{len(BLOB) - 1}/{len(BLOB)}"
        connection.sendall(answer(BLOB[begin:], "206 Partial Content", part))
        connection.recv(1)

    with RawServer(talk) as server:
        registry = connect(server.address)
        obtained = BlobCache(str(tmp_path)).obtain(
            Descriptor(DIGEST, len(BLOB)), lambda offset: registry.blob("a/b", DIGEST, offset), "a blob"
        )
    assert asked[0] == 0
    assert 0 < asked[1] < len(BLOB)
    assert len(asked) == 2
    assert obtained.received == len(BLOB), "no byte came twice"


@pytest.mark.usefixtures("hurry")
def test_a_blob_that_always_trickles_ends_after_a_few_tries(tmp_path: Path, connect: Connect) -> None:
    def talk(connection: socket.socket, _number: int) -> None:
        server.heard(connection)
        connection.sendall(answer(length=10**9))
        while True:
            connection.sendall(b"x")
            sleep(0.001)

    with RawServer(talk) as server:
        registry = connect(server.address)
        with pytest.raises(Unreachable, match="too slowly"):
            BlobCache(str(tmp_path)).obtain(
                Descriptor(DIGEST, 10**9), lambda offset: registry.blob("a/b", DIGEST, offset), "a blob"
            )
        assert server.connections == 3


# TLS


def test_a_handshake_that_is_cut_is_tried_again(tls: Path, pauses: list[float]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls / "server.pem", tls / "server.key")

    def talk(connection: socket.socket, number: int) -> None:
        if number == 1:
            connection.recv(100)
            return
        with context.wrap_socket(connection, server_side=True) as secure:
            server.heard(secure)
            secure.sendall(answer(b"there"))

    with RawServer(talk) as server:
        assert ask(f"https://{server.address}/", retries=1, verify=str(tls / "ca.pem")) == b"there"
    assert len(pauses) == 1


def test_handshakes_that_are_always_cut_are_not_about_the_ca(pauses: list[float]) -> None:
    def talk(connection: socket.socket, _number: int) -> None:
        connection.recv(100)

    with RawServer(talk) as server:
        with pytest.raises(Unreachable, match=r"no answer from .*\(tried 3 times\)") as caught:
            ask(f"https://{server.address}/", retries=2)
        assert server.connections == 3
    assert not isinstance(caught.value, CertificateError)
    assert "ca_path" not in str(caught.value)


def test_a_server_that_refuses_our_tls_is_not_asked_again(tls: Path, pauses: list[float]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls / "server.pem", tls / "server.key")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(tls / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED

    def talk(connection: socket.socket, _number: int) -> None:
        with context.wrap_socket(connection, server_side=True):
            pass

    with RawServer(talk) as server, pytest.raises(CertificateError, match="does not take what this host offers") as it:
        ask(f"https://{server.address}/", retries=2, verify=str(tls / "ca.pem"))
    assert "ca_path" not in str(it.value)
    assert pauses == []


def test_a_file_of_authorities_that_is_not_there_is_told_by_its_variable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "gone.pem"))
    with pytest.raises(CertificateError, match=r"cannot ask 127\.0\.0\.1:1: .*gone\.pem; check .*REQUESTS_CA_BUNDLE"):
        ask("https://127.0.0.1:1/")


def test_what_cannot_be_asked_at_all_is_no_redirect() -> None:
    connections = Connections(Transport())
    with pytest.raises(
        RegistryError, match=r"^cannot ask 127\.0\.0\.1:1 while asking for it: .*encode.*proxy settings"
    ):
        connections.send(HttpRequest("GET", "http://127.0.0.1:1/", "it", {"X": "\N{HORIZONTAL ELLIPSIS}"}))
    connections.close()


# Tries


@pytest.mark.parametrize(("retries", "tried"), [(0, ": [^(]*;"), (1, r"\(tried 2 times\);")])
def test_one_try_is_not_counted(retries: int, tried: str, pauses: list[float]) -> None:
    with pytest.raises(Unreachable, match=rf"no answer from 127\.0\.0\.1:1 while asking for it{tried[:0]}.*{tried}"):
        ask("http://127.0.0.1:1/", retries=retries)


# Proxies

LOGIN = "bob:pr0xy%2Fs3cret"


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("407 Proxy Authentication Required", r"wants a login, or another one, .*\(status 407\).*https_proxy"),
        ("403 Forbidden", r"does not connect to .*\(status 403\).*no_proxy"),
    ],
)
def test_a_proxy_that_refuses_is_told_as_the_proxy(
    scheme: str, status: str, words: str, monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    def talk(connection: socket.socket, _number: int) -> None:
        server.heard(connection)
        connection.sendall(answer(b"", status))

    with RawServer(talk) as server:
        monkeypatch.setenv(f"{scheme}_proxy", f"http://{LOGIN}@{server.address}")
        if scheme == "http" and "403" in status:
            assert ask("http://registry.invalid/") == b"", "nobody can tell it from the registry's own"
            return
        with pytest.raises(RegistryError, match=rf"the proxy {server.address} {words}") as caught:
            ask(f"{scheme}://registry.invalid/", retries=3)
        assert server.connections == 1
    assert pauses == []
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("proxy", ["http://{}@127.0.0.1:1", "{}@127.0.0.1:1", "http://{}@[::1", "nonsense://{}@h:1"])
@pytest.mark.parametrize("login", [LOGIN, "bob:pr0xy/s3cret", "bob:pr0xy#s3cret", "bob:pr0xy?s3cret", "bob:s3cret@x"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_no_message_shows_the_login_to_a_proxy(
    proxy: str, login: str, scheme: str, monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    monkeypatch.setenv(f"{scheme}_proxy", proxy.format(login))
    with pytest.raises(RegistryError) as caught:
        ask(f"{scheme}://registry.invalid/")
    assert "proxy" in str(caught.value)
    assert "redirect" not in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert "pr0xy" not in str(caught.value)
