# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Requests over kept-alive connections, with redirects and patience; what they are about is decided elsewhere."""

from __future__ import annotations

import io
import random
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.cookiejar import DefaultCookiePolicy
from typing import IO, Any
from urllib.parse import urljoin

try:
    import requests
    import requests.adapters
except ImportError:  # the modules say so before anything is tried
    HAS_REQUESTS = False
else:
    HAS_REQUESTS = True

from .address import host_of, is_web_address, origin, place
from .errors import CertificateError, RegistryError, Unreachable
from .reach import Transport
from .response import discard, reason

RETRIED = frozenset({408, 429, 500, 502, 503, 504})
"""Statuses that may pass."""

MAX_PAUSE = 60.0
"""Seconds; a registry that wants more than this is reported, not waited for."""

_MAX_REDIRECTS = 5


class Connections:
    """The kept-alive connections of one session."""

    def __init__(self, transport: Transport) -> None:
        if not HAS_REQUESTS:
            raise RegistryError(
                f"{sys.executable} cannot import the Python library requests on this host; mend or install the package "
                "python3-requests"
            )
        self._transport = transport
        self._session = requests.Session()
        # Redirects are followed here; requests would read, and decompress, the body of one first.
        self._session.get_redirect_target = _no_redirect  # type: ignore[assignment]
        # A cookie may stand for the login that it was given for, and would go to other ports, and without TLS.
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        adapter = requests.adapters.HTTPAdapter(pool_connections=4, pool_maxsize=max(1, transport.connections))
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)

    @property
    def user_agent(self) -> str:
        """What this client calls itself."""
        return self._transport.user_agent

    def close(self) -> None:
        """Give the connections back."""
        self._session.close()

    def ask(
        self,
        method: str,
        url: str,
        what: str,
        headers: Mapping[str, str] | None = None,
        authorization: str | None = None,
        form: Mapping[str, str] | None = None,
        body: bytes | IO[bytes] | None = None,
        once: bool = False,
    ) -> tuple[requests.Response, int]:
        """Send one request, follow its redirects, and try again what may pass.

        :param authorization: a login. It goes to the URL's own origin only, as does the form: object stores that blobs
            redirect to must not see them.
        :param form: what to post.
        :param body: what to send instead of a form; a stream is sent from its beginning. It may follow a redirect,
            but not to where there is no TLS.
        :param once: do not try again: what was sent may have had its effect.
        :returns: the response, of whatever status, and how often it was tried.
        :raises Unreachable, CertificateError, RegistryError: if there is none.
        """
        attempts = 1 if once else self._transport.retries + 1
        request = _Request(method, url, what, headers or {}, authorization, form if body is None else body, attempts)
        for attempt in range(1, attempts + 1):
            last = attempt == attempts
            response = self._follow(request, last)
            if response is None:  # never the last time
                time.sleep(pause(attempt, None))
                continue
            wait = pause(attempt, response.headers.get("Retry-After"))
            if response.status_code not in RETRIED or last or wait > MAX_PAUSE:
                return response, attempt
            discard(response)
            time.sleep(wait)
        raise AssertionError("the last try returns or raises")

    def _follow(self, request: _Request, last: bool) -> requests.Response | None:
        """Send one request, following redirects. None means: no answer, but it is worth another try."""
        url, what, home = request.url, request.what, origin(request.url)
        for _hop in range(_MAX_REDIRECTS + 1):
            sent = {"User-Agent": self._transport.user_agent, "Accept-Encoding": "identity", **request.headers}
            if request.authorization and origin(url) == home:
                sent["Authorization"] = request.authorization
            try:
                response = self._session.request(
                    request.method,
                    url,
                    headers=sent,
                    data=_sent(request.content),
                    stream=True,
                    allow_redirects=False,
                    timeout=self._transport.timeout,
                    verify=self._transport.verify,
                    auth=_no_netrc,
                )
            except requests.exceptions.SSLError as error:
                raise self._certificate_error(url, what, error) from error
            except requests.exceptions.RequestException as error:
                if not last and isinstance(error, (requests.exceptions.ConnectionError, requests.exceptions.Timeout)):
                    return None
                raise Unreachable(
                    f"no answer from {host_of(url)} while asking for {what}: {reason(error)} "
                    f"(tried {request.attempts} times); check the registry's name, the network and the "
                    "proxy settings"
                ) from error
            except ValueError as error:  # what only urllib3 finds wrong with the address
                raise RegistryError(
                    f"{host_of(url)} redirects {what} to what is no web address: {reason(error)}"
                ) from error
            if response.status_code not in (301, 302, 303, 307, 308):
                return response
            location = response.headers.get("Location", "")
            discard(response)
            if not is_web_address(location, url):
                raise RegistryError(f"{host_of(url)} redirects {what} to {place(location)!r}, which is no web address")
            url = urljoin(url, location)
            if request.is_form and origin(url) != home:
                raise RegistryError(
                    f"{host_of(request.url)} redirects {what} to {place(url)}; the login was not sent there. Ask "
                    "whoever runs it"
                )
            if request.content and home[0] == "https" and not url.startswith("https:"):
                raise RegistryError(
                    f"{host_of(request.url)} redirects {what} to {place(url)}, without TLS; nothing was sent there. "
                    "Ask whoever runs it"
                )
        raise RegistryError(f"{host_of(url)} redirects {what} more than {_MAX_REDIRECTS} times")

    def _certificate_error(self, url: str, what: str, error: Exception) -> CertificateError:
        why = reason(error)
        way_out = "give the registry's CA with ca_path"
        if "WRONG_VERSION_NUMBER" in why or "record layer failure" in why:
            way_out = "it may speak plain HTTP, then give no_https: true, which is for all registries of a task"
            if self._transport.by_prefix:
                way_out = "it may speak plain HTTP, then write http:// before its name; no_https does not count for it"
        return CertificateError(f"TLS failure at {host_of(url)} while asking for {what}: {why}; {way_out}")


@dataclass(frozen=True)
class _Request:
    """One request, and how often it may be tried. ``content`` is a form, which holds a login; or bytes, or a stream."""

    method: str
    url: str
    what: str
    headers: Mapping[str, str]
    authorization: str | None
    content: Mapping[str, str] | bytes | IO[bytes] | None
    attempts: int

    @property
    def is_form(self) -> bool:
        """Whether its content is for its own address only."""
        return isinstance(self.content, Mapping)


def _sent(content: Mapping[str, str] | bytes | IO[bytes] | None) -> Mapping[str, str] | bytes | IO[bytes] | None:
    """What requests gets of a content. A stream goes out in blocks, and the timeout is for each, not for all of it."""
    if not content or isinstance(content, Mapping):
        return content
    if isinstance(content, bytes):
        return io.BytesIO(content)
    content.seek(0)
    return content


def _no_netrc(request: Any) -> Any:
    """Handed to requests as its authentication, so that it does not send what a ~/.netrc happens to hold."""
    return request


def _no_redirect(_response: requests.Response) -> None:
    """Handed to requests as its way to see where a response leads."""


def pause(attempt: int, retry_after: str | None) -> float:
    """Seconds to wait after a try, the first is 1: what the registry asks for, else doubled each time, with jitter."""
    if retry_after:
        try:
            return max(0.0, float(retry_after))
        except ValueError:
            try:
                return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
            except (TypeError, ValueError, OverflowError, IndexError):
                pass
    return min(10.0, 0.5 * 2.0 ** (attempt - 1)) * random.uniform(0.75, 1.25)
