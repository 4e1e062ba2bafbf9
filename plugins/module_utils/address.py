# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Web addresses that somebody else wrote: where they lead, and what of them may be shown."""

from __future__ import annotations

import re
from urllib.parse import urljoin, urlsplit

from .reference import shown


def origin(url: str) -> tuple[str, str | None, int | None]:
    """Scheme, host and port (RFC 6454).

    :raises ValueError: if the URL is malformed, or has a backslash in its host: urllib3 ends the host there, so that
        one would be asked and another one trusted.
    """
    parts = urlsplit(url)
    if "\\" in parts.netloc:
        raise ValueError("a backslash in the host")
    return parts.scheme, parts.hostname, parts.port or {"https": 443, "http": 80}.get(parts.scheme)


def is_web_address(url: str, base: str = "") -> bool:
    """Whether a URL, seen from another one, is one of HTTP."""
    try:
        return origin(urljoin(base, url))[0] in ("http", "https")
    except ValueError:
        return False


def host_of(url: str) -> str:
    """Host and port, for a message."""
    return shown(urlsplit(url).netloc.rpartition("@")[2])


def place(url: str) -> str:
    """A web address without what may be secret in it: a login, and the query, which signs it."""
    return shown(re.sub(r"//[^/]*@", "//", re.split(r"[?#]", url, maxsplit=1)[0]))
