# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Web addresses that somebody else wrote: where they lead, and what of them may be shown."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote, urljoin, urlsplit

from ..text import shown


def origin(url: str) -> tuple[str, str | None, int | None]:
    """Return scheme, host and port (RFC 6454).

    :raises ValueError: if the URL is malformed, or has a backslash in its host: urllib3 ends the host there, so that
        one would be asked and another one trusted.
    """
    parts = urlsplit(url)
    if "\\" in parts.netloc:
        raise ValueError("a backslash in the host")
    return parts.scheme, parts.hostname, parts.port or {"https": 443, "http": 80}.get(parts.scheme)


def is_web_address(url: str, base: str = "") -> bool:
    """Tell whether a URL, seen from another one, is one of HTTP."""
    try:
        return origin(seen_from(base, url))[0] in ("http", "https")
    except ValueError:
        return False


def seen_from(base: str, location: str) -> str:
    """Return the address that a ``Location`` means, byte by byte as it came where it can: it may be signed.

    Only what is relative to the path of ``base`` is resolved (RFC 3986, section 5.2). A byte beyond ASCII, which Python
    gives as a character of Latin-1, is quoted.

    :raises ValueError: if it is malformed.
    """
    location = re.sub(r"[\x80-\xff]", lambda match: quote(match.group().encode("latin-1")), location)
    scheme, host = urlsplit(base)[:2]
    if location.startswith("//"):
        return f"{scheme}:{location}"
    if location.startswith("/"):
        return f"{scheme}://{host}{location}"
    return location if re.match(r"https?://", location, re.IGNORECASE) else urljoin(base, location)


def host_of(url: str) -> str:
    """Return host and port, for a message."""
    return shown(urlsplit(url).netloc.rpartition("@")[2])


def logins_in(url: str) -> list[str]:
    """Return the password of a URL, quoted and not; of a malformed URL each piece, since an error may show one."""
    login = url.partition("://")[2].rpartition("@")[0] or url.rpartition("@")[0]
    password = login.partition(":")[2]
    pieces = [piece for piece in re.split(r"[/?#@]", password) if len(piece) > 2]
    return [text for text in (login if password else "", password, unquote(password), *pieces) if text]


def redacted(url: str) -> str:
    """Return a web address without its possible secrets: a login, and the query, which signs it."""
    return shown(re.sub(r"//[^/]*@", "//", re.split(r"[?#]", url, maxsplit=1)[0]))
