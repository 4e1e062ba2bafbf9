# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A server that does not answer: the meaning for the user, and whether another try may get an answer."""

from __future__ import annotations

import re
import socket
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

with suppress(ImportError):  # without it nothing is requested
    import requests

from ..errors import CertificateError, RegistryError, TooSlow, Unreachable
from .response import innermost, is_slow, reason
from .url import host_of

_PROXY_LOGIN = 407
_REFUSED_BY_PROXY = re.compile(r"Tunnel connection failed: (\d{3})")  # of http.client
_PLAIN_HTTP = re.compile(r"WRONG_VERSION_NUMBER|record layer failure|HTTP_REQUEST|UNKNOWN_PROTOCOL", re.IGNORECASE)
_ABOUT_CA = re.compile(r"certificate verify failed|hostname|X509|PEM|NO_CERTIFICATE", re.IGNORECASE)
_ALERT = re.compile(r"\balert\b|_ALERT_", re.IGNORECASE)
_NO_SUCH_HOST = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})
_PROXY_SCHEMES = frozenset({"http", "https", "socks4", "socks4a", "socks5", "socks5h"})
_MAY_PASS = frozenset({"408", "429", "500", "502", "503", "504"})  # of a proxy; as transport.RETRIED


@dataclass(frozen=True)
class ConnectionFailure:
    """One request without an answer, with the proxy that it went to, or nothing. ``by_prefix`` as in ``Transport``."""

    url: str
    what: str
    proxy: str
    by_prefix: bool

    def passes(self, error: Exception) -> bool:
        """Tell whether another try may get an answer."""
        if not isinstance(error, (requests.exceptions.ConnectionError, requests.exceptions.Timeout)) or is_slow(error):
            return False
        if isinstance(error, requests.exceptions.SSLError) and self._way_out(reason(error)):
            return False
        refused = _REFUSED_BY_PROXY.search(str(error))
        if refused and refused.group(1) not in _MAY_PASS:
            return False
        cause = innermost(error)
        return not (isinstance(cause, socket.gaierror) and cause.errno in _NO_SUCH_HOST)

    def meaning(self, error: Exception, attempts: int) -> RegistryError:
        """Return what it means to the user, after so many tries."""
        why = reason(error)
        way_out = isinstance(error, requests.exceptions.SSLError) and self._way_out(why)
        if way_out:
            return self._error(CertificateError, f"TLS failure at {host_of(self.url)}", f": {why}; {way_out}")
        refused = _REFUSED_BY_PROXY.search(str(error))
        if refused:
            return self.by_proxy(int(refused.group(1)))
        if self._is_proxy_odd:
            return self._odd_proxy(why)
        asked = host_of(self.url)
        if isinstance(error, requests.exceptions.ProxyError):
            asked = f"the proxy {self._proxy} on the way to {asked}"
        tried = f" (tried {attempts} times)" if attempts > 1 else ""
        return self._error(
            TooSlow if is_slow(error) else Unreachable,
            f"no answer from {asked}",
            f": {why}{tried}; check the registry's name, the network and the proxy settings",
        )

    def by_proxy(self, status: int) -> RegistryError:
        """Return what it means to the user that the proxy refuses, with a status, to ask."""
        if status == _PROXY_LOGIN:
            refusal = f"the proxy {self._proxy} wants a login, or another one, to reach {host_of(self.url)}"
            way_out = "write USER:PASSWORD@ before its name in the variable http_proxy or https_proxy of this host"
        else:
            refusal = f"the proxy {self._proxy} does not connect to {host_of(self.url)}"
            way_out = "ask whoever runs the proxy, or except this registry from it with the variable no_proxy"
        return self._error(RegistryError, refusal, f" (status {status}); {way_out}")

    def unasked(self, error: Exception) -> RegistryError:
        """Return what it means to the user that the request could not even be sent."""
        if self._is_proxy_odd:
            return self._odd_proxy(reason(error))
        if isinstance(error, ValueError):
            way_out = f": {reason(error)}; check its address, which a redirect may have told, and the proxy settings"
            return self._error(RegistryError, f"cannot ask {host_of(self.url)}", way_out)
        variables = "the variables REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE of this host"
        return CertificateError(f"cannot ask {host_of(self.url)}: {reason(error)}; check ca_path, or {variables}")

    def _error(self, kind: type[RegistryError], begin: str, end: str) -> RegistryError:
        return kind(f"{begin} while asking for {self.what}{end}", begin + end)

    def _odd_proxy(self, why: str) -> RegistryError:
        way_out = (
            "write http_proxy or https_proxy of this host as http://[USER:PASSWORD@]HOST:PORT, and as %XX what has a "
            "meaning in addresses, such as %23 for #"
        )
        return self._error(RegistryError, "the address of the proxy cannot be used", f": {why}; {way_out}")

    @property
    def _is_proxy_odd(self) -> bool:
        """True if the address of the proxy is not one; it is what somebody wrote into a variable."""
        if "://" not in self.proxy:  # then requests takes HTTP, but finds no login
            return "@" in self.proxy
        try:
            parts = urlsplit(self.proxy)
            return not (parts.scheme in _PROXY_SCHEMES and parts.hostname and (parts.port is None or parts.port > 0))
        except ValueError:
            return True

    @property
    def _proxy(self) -> str:
        if not self.proxy:
            return f"before {host_of(self.url)}"
        return host_of(self.proxy if "://" in self.proxy else f"//{self.proxy}")

    def _way_out(self, why: str) -> str:
        """Return what to do about TLS that fails each time; empty for a handshake that was cut, which may pass."""
        if _PLAIN_HTTP.search(why):
            if self.by_prefix:
                return "it may speak plain HTTP, then write http:// before its name; no_https does not count for it"
            return f"it may speak plain HTTP, then name it in insecure_registries as http://{host_of(self.url)}"
        if _ABOUT_CA.search(why):
            return "give the registry's CA with ca_path"
        if _ALERT.search(why):
            return "it does not take what this host offers, such as a version of TLS; ask whoever runs it"
        return ""


def was_connected(error: BaseException) -> bool:
    """Tell whether somebody was there who did not answer this request, so that another one may be answered."""
    cause = error.__cause__
    while cause is not None and not isinstance(cause, requests.exceptions.RequestException):
        cause = cause.__cause__
    aborted = isinstance(cause, requests.exceptions.ConnectionError) and any(
        type(inner).__name__ == "ProtocolError" for inner in cause.args
    )
    return aborted or isinstance(cause, requests.exceptions.ReadTimeout)
