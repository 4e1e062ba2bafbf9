# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The server: asks its faults, in the order in which they were given, else the real registry.

It stands on ``http.server``, since libraries for the servers of tests answer well: they have no way to end a connection
within a body, to promise more than they send, to send at a given rate, or to tell one connection from another.
"""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

_A_SECOND = 10  # pieces of a body that is sent slowly
_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length"})


@dataclass(frozen=True)
class Request:
    """A client's request: ``path`` with its query, ``headers`` in lower case, the number of the TCP connection.

    ``status`` is what it got, 0 if nothing.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    connection: int = 0
    status: int = 0
    body: bytes = b""

    def with_header(self, name: str, value: str | None) -> Request:
        """Return the same request with another header, or, with None, without it."""
        headers = {key: text for key, text in self.headers.items() if key != name.lower()}
        return replace(self, headers=headers if value is None else {**headers, name.lower(): value})


@dataclass(frozen=True)
class Answer:
    """The answer that is sent back. A status of 0 closes the connection without a word.

    ``delay`` is in seconds, before the answer; ``cut`` is the number of bytes of the body after which the connection is
    closed, ``stall`` seconds later, although the Content-Length promises all of it. ``rate`` is in bytes a second, None
    for as fast as it goes.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    delay: float = 0.0
    cut: int | None = None
    stall: float = 0.0
    rate: int | None = None

    def header(self, name: str) -> str | None:
        """Return a header's value."""
        return next((value for key, value in self.headers.items() if key.lower() == name.lower()), None)

    def with_header(self, name: str, value: str | None) -> Answer:
        """Return the same answer with another header, or, with None, without it."""
        headers = {key: text for key, text in self.headers.items() if key.lower() != name.lower()}
        return replace(self, headers=headers if value is None else {**headers, name: value})


Upstream = Callable[[Request], Answer]
Fault = Callable[[Request, Upstream], Answer]


@dataclass
class _Rule:
    pattern: re.Pattern[str]
    method: str | None
    fault: Fault
    skip: int
    left: int | None

    def applies(self, request: Request) -> bool:
        """Tell whether it is this rule's turn; count the requests."""
        if self.left == 0 or self.method not in (None, request.method) or not self.pattern.search(request.path):
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.left is not None:
            self.left -= 1
        return True


class FaultyRegistry:
    """A registry on a free port of 127.0.0.1 while a ``with`` block lasts."""

    def __init__(self, upstream: str | None = None, certificate: tuple[Path, Path] | None = None) -> None:
        """
        :param upstream: URL of the registry to pass on to, ``http://HOST:PORT``; without, all that has no rule is 404.
        :param certificate: files of the certificate and its key, to speak TLS.
        """
        self._upstream = urlsplit(upstream).netloc if upstream else None
        self._certificate = certificate
        self._lock = threading.Lock()
        self._rules: list[_Rule] = []
        self._requests: list[Request] = []
        self._connections = 0
        self._stopped = threading.Event()
        self._hurried = threading.Event()
        self._server: _Server | None = None

    def __enter__(self) -> FaultyRegistry:
        self._server = _Server(self, self._certificate)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._hurried.set()
        if self._server:
            self._server.shutdown()
            self._server.server_close()

    @property
    def address(self) -> str:
        """``host:port``, as it stands in an image reference."""
        assert self._server, "only inside of a with block"
        return f"127.0.0.1:{self._server.server_address[1]}"

    @property
    def url(self) -> str:
        """The base URL."""
        return f"{'https' if self._certificate else 'http'}://{self.address}"

    @property
    def requests(self) -> list[Request]:
        """All requests so far, in their order."""
        with self._lock:
            return list(self._requests)

    @property
    def connections(self) -> int:
        """Count the TCP connections that clients opened."""
        return self._connections

    def asked(self, pattern: str, method: str | None = None) -> list[Request]:
        """Return the requests whose path matches a pattern."""
        return [each for each in self.requests if re.search(pattern, each.path) and method in (None, each.method)]

    def when(
        self, pattern: str, fault: Fault, method: str | None = None, times: int | None = None, after: int = 0
    ) -> FaultyRegistry:
        """Let a fault answer what matches: ``times`` times (always, unless given), the first ``after`` left alone."""
        with self._lock:
            self._rules.append(_Rule(re.compile(pattern), method, fault, after, times))
        return self

    def calm(self) -> None:
        """Forget all faults, and all requests so far."""
        with self._lock:
            self._rules.clear()
            self._requests.clear()

    def new_connection(self) -> int:
        """Count a connection; its number."""
        with self._lock:
            self._connections += 1
            return self._connections

    def answer(self, request: Request) -> Answer:
        """Answer a request. It is recorded before it is answered."""
        with self._lock:
            fault = next((rule.fault for rule in self._rules if rule.applies(request)), None)
        answer = fault(request, self._ask) if fault else self._ask(request)
        with self._lock:
            self._requests.append(replace(request, status=answer.status))
        return answer

    def hurry(self) -> None:
        """Send what is slowed as fast as it goes from now on, also what is on its way."""
        self._hurried.set()

    def pace(self, seconds: float) -> None:
        """Wait between two pieces of what is slowed."""
        self._hurried.wait(seconds)

    def wait(self, seconds: float) -> None:
        """Sleep, but not longer than the registry lives, and not by time.sleep, which tests replace."""
        self._stopped.wait(seconds)

    def _ask(self, request: Request) -> Answer:
        if not self._upstream:
            return Answer(404)
        connection = http.client.HTTPConnection(self._upstream, timeout=60)
        try:
            headers = {key: value for key, value in request.headers.items() if key not in _HOP_BY_HOP}
            connection.request(request.method, request.path, body=request.body or None, headers=headers)
            response = connection.getresponse()
            kept = {key: value for key, value in response.getheaders() if key.lower() not in _HOP_BY_HOP}
            if request.method == "HEAD":
                kept["Content-Length"] = response.getheader("Content-Length") or "0"
            return Answer(response.status, kept, _rest(response))
        finally:
            connection.close()


def _rest(response: http.client.HTTPResponse) -> bytes:
    """Return the body; Debian's registry itself promises more than it sends with status 416."""
    try:
        return response.read()
    except http.client.IncompleteRead as error:
        return error.partial


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, registry: FaultyRegistry, certificate: tuple[Path, Path] | None) -> None:
        self.registry = registry
        super().__init__(("127.0.0.1", 0), _Exchange)
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            # the handshake happens in each connection's own thread: a silent client blocks nobody
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def handle_error(self, request: object, client_address: object) -> None:
        """Pass over a client that goes away, or does not trust the certificate: the server works."""


class _Exchange(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 60
    server: _Server

    def setup(self) -> None:
        super().setup()
        self._connection = self.server.registry.new_connection()

    def do_GET(self) -> None:
        """Answer as the registry says, and remember it."""
        registry = self.server.registry
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", "0")))
        answer = registry.answer(Request(self.command, self.path, headers, self._connection, body=body))
        if answer.delay:
            registry.wait(answer.delay)
        if answer.status:
            self._send(answer)
        if answer.status == 0 or answer.cut is not None:
            registry.wait(answer.stall)
            self.close_connection = True
            # close() alone would wait for this object to be collected
            self.connection.shutdown(socket.SHUT_RDWR)

    do_HEAD = do_GET  # noqa: N815
    do_PATCH = do_GET  # noqa: N815
    do_POST = do_GET  # noqa: N815
    do_PUT = do_GET  # noqa: N815

    def _send(self, answer: Answer) -> None:
        head = self.command == "HEAD"
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            if name.lower() != "content-length":
                self.send_header(name, value)
        length = answer.header("Content-Length") if head else None
        if not (head and length is None):
            self.send_header("Content-Length", length or str(len(answer.body)))
        self.end_headers()
        if not head:
            self._send_body(answer.body[: answer.cut], answer.rate)
        self.wfile.flush()

    def _send_body(self, body: bytes, rate: int | None) -> None:
        piece = rate // _A_SECOND or 1 if rate else len(body) or 1
        for begin in range(0, len(body), piece):
            self.wfile.write(body[begin : begin + piece])
            if rate:
                self.server.registry.pace(1 / _A_SECOND)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: ``FaultyRegistry.requests`` tells."""
