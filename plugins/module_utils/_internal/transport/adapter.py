# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Connections for servers that nobody vouches for: addresses go out as they came, data is given out as it comes, and
what comes too slowly ends.

``requests`` and ``urllib3`` rewrite an address (``%7E`` becomes ``~``, ``%2d`` becomes ``%2D``), which a signature does
not survive. They wait until as much has come as was asked for, and lose it when the connection breaks before. And their
timeout is for each wait, so a server that sends a byte now and then holds a run for ever.
"""

from __future__ import annotations

import http.client
import io
import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

try:
    from requests.adapters import HTTPAdapter
except ImportError:  # transport says so before anything is tried
    HTTPAdapter = object  # type: ignore[assignment,misc]

from .response import Stalled

if TYPE_CHECKING:
    import requests

LEAST, PERIOD = 64 * 1024, 120.0
"""Bytes of a body, without what frames it, that must come in so many seconds of waiting."""

_WAITS = 4  # times the timeout of one wait, for all headers: those of "100 Continue" and of a proxy too

_clock = time.monotonic


class _Paced(io.RawIOBase):
    """A stream from a socket: first headers, until a moment, then a body, at a least speed."""

    def __init__(self, raw: io.RawIOBase, wait: float) -> None:
        self._raw = raw
        self._patience = _WAITS * wait
        self._end: float | None = _clock() + self._patience
        self._period = max(PERIOD, wait)
        self._waited = 0.0
        self._received = 0

    def headers_end(self) -> None:
        """Note that from now on it is the body that comes."""
        self._end = None
        self._waited, self._received = 0.0, 0

    def came(self, size: int) -> None:
        """Count bytes of the body itself: chunks have lengths and trailers, which may be endless."""
        self._received += size
        if self._received >= LEAST:
            self._waited, self._received = 0.0, 0

    def readable(self) -> bool:
        """Return that it is for reading."""
        return True

    def fileno(self) -> int:
        """Return that of the socket."""
        return self._raw.fileno()

    def close(self) -> None:
        """Give up the share in the socket."""
        self._raw.close()
        super().close()

    def readinto(self, buffer: Any) -> int | None:
        """Wait for data.

        :raises Stalled: if it comes too slowly.
        """
        begin = _clock()
        if self._end is not None and begin >= self._end:
            raise Stalled(f"its headers do not end within {self._patience:.0f} s")
        if self._waited >= self._period:
            raise Stalled(f"it sends less than {LEAST // 1024} KiB in {self._period:.0f} s")
        received = cast("int | None", self._raw.readinto(buffer))
        # What is done with the data meanwhile, such as writing it to a slow disk, says nothing about the server.
        self._waited += _clock() - begin
        return received


class EagerResponse(http.client.HTTPResponse):
    """A response whose ``read(size)`` gives what is there, and does not wait for all of the size."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        wait = getattr(sock, "gettimeout", lambda: None)()  # which some stand-ins for sockets do not have
        self._paced = _Paced(self.fp.detach(), wait or PERIOD / _WAITS)
        self.fp = io.BufferedReader(self._paced)

    def begin(self) -> None:
        """Read the headers."""
        super().begin()
        self._paced.headers_end()

    def read(self, amt: int | None = None) -> bytes:
        """Return up to so many bytes of the body, as soon as some are there; all of it without a number."""
        if amt is None:
            return super().read()
        data = self.read1(amt)
        self._paced.came(len(data))
        return data

    def _read_status(self) -> tuple[str, int, str]:
        """Read the status line; one that another one follows (not 101) is given as 100, which ``begin`` expects."""
        version, status, words = super()._read_status()  # type: ignore[misc]
        return version, http.client.CONTINUE if 101 < status < 200 else status, words


class Adapter(HTTPAdapter):
    """The adapter by which requests sends, with responses of the kind above, and addresses as they were given."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._sent = threading.local()
        self._adapting = threading.Lock()
        super().__init__(*args, **kwargs)

    @contextmanager
    def exactly(self, url: str) -> Iterator[None]:
        """Let the request of this thread, for a block, ask for a URL byte by byte.

        Only what cannot stand in the first line of a request is quoted: blanks, control characters, and what is not
        ASCII.
        """
        target = re.sub(r"\A[^:/?#]+://[^/?#]*", "", url.partition("#")[0])
        target = target if target.startswith("/") else f"/{target}"
        self._sent.target = re.sub(r"[^!-~]", _quoted, target)
        try:
            yield
        finally:
            self._sent.target = self._sent.line = None

    def request_url(self, request: requests.PreparedRequest, proxies: Mapping[str, str] | None) -> str:
        """Return the address that requests would ask for, and keep the one that is asked for instead."""
        url = super().request_url(request, proxies)
        # a proxy without a tunnel is asked for the whole address
        whole = re.match(r"[^:/?#]+://[^/?#]*", url)
        target = getattr(self._sent, "target", None)
        self._sent.line = (whole.group() if whole else "") + target if target else None
        return url

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the connections without a proxy."""
        super().init_poolmanager(*args, **kwargs)
        self._adapt(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Make the connections through a proxy."""
        manager = super().proxy_manager_for(proxy, **kwargs)
        self._adapt(manager)
        return manager

    def _adapt(self, manager: Any) -> None:
        """Let a manager of urllib3 use connections of the kind above: each of them its own kind, and what is here."""
        sent = self._sent

        class Exact:
            """Asks for an address as it was given, and reads the answer as it comes."""

            response_class = EagerResponse

            def putrequest(self, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
                return super().putrequest(method, getattr(sent, "line", None) or url, *args, **kwargs)  # type: ignore[misc]

        with self._adapting:  # threads share the manager of a proxy: none may connect by one that is not adapted yet
            if getattr(manager, "exact", False):
                return
            manager.exact = True
            manager.pool_classes_by_scheme = {
                scheme: type(pool.__name__, (pool,), {"ConnectionCls": type("Exact", (Exact, pool.ConnectionCls), {})})
                for scheme, pool in manager.pool_classes_by_scheme.items()
            }


def _quoted(match: re.Match[str]) -> str:
    return quote(match.group())
