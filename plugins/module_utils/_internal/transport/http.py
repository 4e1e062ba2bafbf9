# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Requests over kept-alive connections, with redirects and retries; what they are about is decided elsewhere."""

from __future__ import annotations

import io
import random
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from http.cookiejar import DefaultCookiePolicy
from typing import IO, TYPE_CHECKING, Any, Optional, Union
from urllib.request import getproxies

try:
    import requests
    import requests.utils

    from .adapter import Adapter
except ImportError:  # the modules say so before anything is tried
    HAS_REQUESTS = False
else:
    HAS_REQUESTS = True

from ..errors import RegistryError
from ..late import importing
from ..secrecy import hide
from .options import Transport
from .response import drain
from .url import host_of, is_web_address, logins_in, origin, redacted, seen_from

if TYPE_CHECKING:
    from .connection_error import ConnectionFailure

Content = Optional[Union[Mapping[str, str], bytes, IO[bytes]]]
"""What a request sends: a form, or a body."""

RETRIED = frozenset({408, 429, 500, 502, 503, 504})
"""Statuses that may pass."""

MAX_DELAY = 60.0
"""Seconds; a registry that wants more than this is reported, not waited for."""

_MAX_REDIRECTS = 10
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PROXY_LOGIN = 407


@dataclass(frozen=True)
class HttpRequest:
    """One request.

    ``what`` names what it is about, in errors. ``authorization`` is a header; it goes to the origin of ``url`` only, as
    does a form: object stores that blobs redirect to must not see them. ``content`` is a form, which may hold a login;
    or bytes, or a stream, which is sent from its beginning: these may follow a redirect, but not to where there is no
    TLS. ``once``: do not try again, since what was sent may have had its effect.
    """

    method: str
    url: str
    what: str
    headers: Mapping[str, str] = field(default_factory=dict)
    authorization: str | None = field(default=None, repr=False)
    content: Content = field(default=None, repr=False)
    once: bool = False

    def need_safe(self, url: str) -> None:
        """Refuse to send the content where it must not go.

        :param url: where a redirect leads.
        :raises RegistryError: if it must not.
        """
        if isinstance(self.content, Mapping) and origin(url) != origin(self.url):
            raise RegistryError(
                f"{host_of(self.url)} redirects {self.what} to {redacted(url)}; the login was not sent there. Ask "
                "whoever runs it"
            )
        if self.content and origin(self.url)[0] == "https" and not url.lower().startswith("https:"):
            raise RegistryError(
                f"{host_of(self.url)} redirects {self.what} to {redacted(url)}, without TLS; nothing was sent there. "
                "Ask whoever runs it"
            )


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
        self._adapter = Adapter(pool_connections=4, pool_maxsize=max(1, transport.connections))
        self._session.mount("https://", self._adapter)
        self._session.mount("http://", self._adapter)
        for proxy in getproxies().values():
            hide(*logins_in(proxy))

    @property
    def user_agent(self) -> str:
        """The name by which this client calls itself."""
        return self._transport.user_agent

    def close(self) -> None:
        """Give the connections back."""
        self._session.close()

    def send(self, request: HttpRequest) -> tuple[requests.Response, int]:
        """Send one request, follow its redirects, and try again what may pass.

        :returns: the response, of whatever status, and how often it was tried.
        :raises Unreachable, CertificateError, RegistryError: if there is none.
        """
        attempts = 1 if request.once else self._transport.retries + 1
        for attempt in range(1, attempts + 1):
            last = attempt == attempts
            try:
                response = self._follow(request, attempt)
            except _Passing as error:
                if last:
                    raise error.meaning from error
                time.sleep(retry_delay(attempt, None))
                continue
            wait = retry_delay(attempt, response.headers.get("Retry-After"))
            if response.status_code not in RETRIED or last or wait > MAX_DELAY:
                return response, attempt
            drain(response)
            time.sleep(wait)
        raise AssertionError("the last try returns or raises")

    def _follow(self, request: HttpRequest, attempt: int) -> requests.Response:
        """Send one request, following redirects.

        :raises _Passing: if there is no answer, but another try may get one.
        """
        url, what = request.url, request.what
        for _hop in range(_MAX_REDIRECTS + 1):
            response = self._send(request, url, attempt)
            if response.status_code == _PROXY_LOGIN:
                drain(response)
                raise self._failure(url, what).by_proxy(_PROXY_LOGIN)
            if response.status_code not in _REDIRECTS:
                return response
            location = response.headers.get("Location", "")
            drain(response)
            if not is_web_address(location, url):
                raise RegistryError(
                    f"{host_of(url)} redirects {what} to {redacted(location)!r}, which is not a web address"
                )
            url = seen_from(url, location)
            request.need_safe(url)
        raise RegistryError(f"{host_of(url)} redirects {what} more than {_MAX_REDIRECTS} times")

    def _send(self, request: HttpRequest, url: str, attempt: int) -> requests.Response:
        sent = {"User-Agent": self._transport.user_agent, "Accept-Encoding": "identity", **request.headers}
        if request.authorization and origin(url) == origin(request.url):
            sent["Authorization"] = request.authorization
        try:
            with self._adapter.exactly(url):
                return self._session.request(
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
        except requests.exceptions.RequestException as error:
            failure = self._failure(url, request.what)
            meaning = failure.meaning(error, attempt)
            raise (_Passing(meaning) if failure.passes(error) else meaning) from error
        except (OSError, ValueError) as error:  # of files of authorities, and of addresses that only urllib3 refuses
            raise self._failure(url, request.what).unasked(error) from error

    def _failure(self, url: str, what: str) -> ConnectionFailure:
        with importing:
            from .connection_error import ConnectionFailure
        proxies = self._session.merge_environment_settings(url, {}, True, None, None)["proxies"]
        return ConnectionFailure(url, what, requests.utils.select_proxy(url, proxies) or "", self._transport.by_prefix)


class _Passing(Exception):
    """No answer, for a reason that may pass; ``meaning`` is what to say if it does not."""

    def __init__(self, meaning: RegistryError) -> None:
        super().__init__(str(meaning))
        self.meaning = meaning


def _sent(content: Content) -> Content:
    """Return what requests gets. A stream goes out in blocks, and the timeout is for each, not for all of it."""
    if not content or isinstance(content, Mapping):
        return content
    if isinstance(content, bytes):
        return io.BytesIO(content)
    content.seek(0)
    return content


def _no_netrc(request: Any) -> Any:
    """Serve requests as its authentication, so that it does not send what a ~/.netrc happens to hold."""
    return request


def _no_redirect(_response: requests.Response) -> None:
    """Serve requests as its way to see where a response leads."""


def retry_delay(attempt: int, retry_after: str | None) -> float:
    """Return the seconds to wait after a try (from 1): as the registry asks, else doubled each time, with jitter."""
    if retry_after:
        try:
            return max(0.0, float(retry_after))
        except ValueError:
            try:
                return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
            except (TypeError, ValueError, OverflowError, IndexError):
                pass
    return min(10.0, 0.5 * 2.0 ** (attempt - 1)) * random.uniform(0.75, 1.25)
