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
from typing import IO, TYPE_CHECKING, Any
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
from .response import discard
from .url import host_of, is_web_address, logins_in, origin, place, seen_from

if TYPE_CHECKING:
    from .connection_error import Silence

RETRIED = frozenset({408, 429, 500, 502, 503, 504})
"""Statuses that may pass."""

MAX_PAUSE = 60.0
"""Seconds; a registry that wants more than this is reported, not waited for."""

_MAX_REDIRECTS = 10
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PROXY_LOGIN = 407


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
            try:
                response = self._follow(request, attempt)
            except _Passing as error:
                if last:
                    raise error.meaning from error
                time.sleep(pause(attempt, None))
                continue
            wait = pause(attempt, response.headers.get("Retry-After"))
            if response.status_code not in RETRIED or last or wait > MAX_PAUSE:
                return response, attempt
            discard(response)
            time.sleep(wait)
        raise AssertionError("the last try returns or raises")

    def _follow(self, request: _Request, attempt: int) -> requests.Response:
        """Send one request, following redirects.

        :raises _Passing: if there is no answer, but another try may get one.
        """
        url, what, home = request.url, request.what, origin(request.url)
        for _hop in range(_MAX_REDIRECTS + 1):
            response = self._send(request, url, attempt)
            if response.status_code == _PROXY_LOGIN:
                discard(response)
                raise self._silence(url, what).by_proxy(_PROXY_LOGIN)
            if response.status_code not in _REDIRECTS:
                return response
            location = response.headers.get("Location", "")
            discard(response)
            if not is_web_address(location, url):
                raise RegistryError(f"{host_of(url)} redirects {what} to {place(location)!r}, which is no web address")
            url = seen_from(url, location)
            if request.is_form and origin(url) != home:
                raise RegistryError(
                    f"{host_of(request.url)} redirects {what} to {place(url)}; the login was not sent there. Ask "
                    "whoever runs it"
                )
            if request.content and home[0] == "https" and not url.lower().startswith("https:"):
                raise RegistryError(
                    f"{host_of(request.url)} redirects {what} to {place(url)}, without TLS; nothing was sent there. "
                    "Ask whoever runs it"
                )
        raise RegistryError(f"{host_of(url)} redirects {what} more than {_MAX_REDIRECTS} times")

    def _send(self, request: _Request, url: str, attempt: int) -> requests.Response:
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
            silence = self._silence(url, request.what)
            meaning = silence.meaning(error, attempt)
            raise (_Passing(meaning) if silence.passes(error) else meaning) from error
        except (OSError, ValueError) as error:  # of files of authorities, and of addresses that only urllib3 refuses
            raise self._silence(url, request.what).unasked(error) from error

    def _silence(self, url: str, what: str) -> Silence:
        """To find words for no answer."""
        with importing:
            from .connection_error import Silence
        proxies = self._session.merge_environment_settings(url, {}, True, None, None)["proxies"]
        return Silence(url, what, requests.utils.select_proxy(url, proxies) or "", self._transport.by_prefix)


class _Passing(Exception):
    """No answer, for a reason that may pass; ``meaning`` is what to say if it does not."""

    def __init__(self, meaning: RegistryError) -> None:
        super().__init__(str(meaning))
        self.meaning = meaning


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
