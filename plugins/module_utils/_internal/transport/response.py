# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Responses of servers, read without trusting them: nothing is decompressed, or read without a bound."""

from __future__ import annotations

import json
import re
import socket
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

from ..errors import InvalidManifest, RegistryError, TooSlow, Unreachable
from ..secrecy import masked
from ..text import printable, shown
from .url import host_of

if TYPE_CHECKING:
    import requests

CHUNK = 256 * 1024  # bytes given out at a time, where they come quickly

RANGE_REFUSED = 416

_PARTIAL = 206
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)", re.ASCII | re.IGNORECASE)
_MAX_DISCARDED = 64 * 1024  # bytes; reading that much is cheaper than a new connection
_MAX_WORDS = 64 * 1024  # bytes
_PATIENCE = 120.0  # seconds for a whole document
_SHORT_PATIENCE = 15.0  # for what is of little use
_HELD = 1.0  # seconds that what came may wait for more before it is given out

_clock = time.monotonic


class Stalled(socket.timeout):
    """A connection on which data comes, but too slowly."""


def content(response: requests.Response, limit: int, what: object) -> bytes:
    """Return all of a document, as it came: nothing is decompressed, for a few bytes can hold gigabytes.

    :raises InvalidManifest: if it is larger than the limit, in bytes.
    :raises RegistryError: if it is encoded, which it was asked not to be.
    :raises Unreachable: if the connection breaks, or after two minutes.
    """
    if _is_encoded(response):
        encoding = shown(response.headers["Content-Encoding"], 40)
        raise RegistryError(
            f"{host_of(response.url)} sent {what} with the Content-Encoding {encoding!r}, though it was asked for "
            "'identity'; a proxy may do that, so try without it"
        )
    parts: list[bytes] = []
    total = 0
    for piece in _pieces(response, limit + 1, _PATIENCE, what):
        total += len(piece)
        parts.append(piece)
    if total > limit:
        raise InvalidManifest(
            f"{host_of(response.url)} sent more than {limit} bytes for {what}; that cannot be a manifest"
        )
    _need_all(response, total, what)
    return b"".join(parts)


def chunks(response: requests.Response, what: object) -> Iterator[bytes]:
    """Yield a body of any length, as it comes: what came before the connection breaks is given out first.

    :raises Unreachable: while reading, when the connection breaks; ``TooSlow`` if next to nothing comes.
    """
    received, size, since = 0, 0, 0.0
    gathered: list[bytes] = []
    trouble: Unreachable | None = None
    pieces = _pieces(response, sys.maxsize, None, what)
    while True:
        try:
            piece = next(pieces, b"")
        except Unreachable as error:
            piece, trouble = b"", error
        since = since if gathered else _clock()
        gathered.append(piece)
        size += len(piece)
        if not piece or size >= CHUNK or _clock() - since >= _HELD:
            received += size
            if size:
                yield b"".join(gathered)
            if not piece:
                break
            gathered, size = [], 0
    if trouble:
        raise trouble
    _need_all(response, received, what)


def _pieces(response: requests.Response, limit: int, patience: float | None, what: object) -> Iterator[bytes]:
    """Yield a body in pieces, each as soon as it is there, up to so many bytes in all.

    :param patience: seconds for all of it.
    :raises Unreachable: when the connection breaks; ``TooSlow`` if that is since too little comes.
    """
    end = None if patience is None else _clock() + patience
    while limit > 0:
        if end is not None and _clock() >= end:
            raise TooSlow(
                f"{host_of(response.url)} sends {what} so slowly that it was not there after {patience:.0f} s; try "
                "again later, or ask whoever runs it"
            )
        try:
            # gives what is there, see adapter.EagerResponse
            piece = response.raw.read(min(limit, CHUNK), decode_content=False)
        except Exception as error:
            if not is_broken(error):
                raise
            if is_slow(error):
                raise TooSlow(f"{host_of(response.url)} sends {what} too slowly: {reason(error)}") from error
            raise Unreachable(
                f"the connection to {host_of(response.url)} broke while reading {what}: {reason(error)}"
            ) from error
        if not piece:
            return
        limit -= len(piece)
        yield piece


def error_words(response: requests.Response) -> str:
    """Return a server's own words for a refusal, shortened, without secrets; empty if it has none.

    Registries write ``errors`` (distribution specification, "Error Codes"), token servers ``details`` (Docker's and
    distribution's) or ``error`` and ``error_description`` (RFC 6749, section 5.2).
    """
    if _is_encoded(response):
        return ""
    try:
        document = json.loads(b"".join(_pieces(response, _MAX_WORDS, _SHORT_PATIENCE, "an error")))
        if "errors" in document:
            words = "; ".join(_joined(each, "code", "message") for each in document["errors"])
        else:
            words = _joined(document, "error", "error_description", "details", "message")
    except (Unreachable, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ""
    return shown(words)


def _joined(document: Any, *keys: str) -> str:
    return " ".join(str(document.get(key)) for key in keys if document.get(key))


def media_type(response: requests.Response) -> str:
    """Return the ``Content-Type`` without its parameters."""
    return printable(response.headers.get("Content-Type", "").partition(";")[0].strip())


def content_length(response: requests.Response) -> int | None:
    """Return the length that was promised, in bytes; None if it is not a number, or does not count.

    It does not count where the body comes in chunks (RFC 9112, section 6.3).
    """
    if response.headers.get("Transfer-Encoding"):
        return None
    text = response.headers.get("Content-Length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None


def part(response: requests.Response) -> tuple[int, int | None] | None:
    """Return the offset at which a body begins in the whole, and the size of the whole in bytes, if it is told.

    None if it is a part (status 206) that does not say which (RFC 9110, section 14.4).
    """
    if response.status_code != _PARTIAL:
        return 0, content_length(response)
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
    if not match:
        return None
    return int(match.group(1)), int(match.group(2)) if match.group(2) != "*" else None


def data_from(response: requests.Response, offset: int, what: object) -> tuple[int, Iterator[bytes]] | None:
    """Return the offset at which a body really begins, and its chunks; None if it is not from the offset, nor whole."""
    if response.status_code == RANGE_REFUSED:
        return None
    found = part(response)
    if not found or (found[0] != offset and response.status_code == _PARTIAL):
        return None
    return found[0], chunks(response, what)


def drain(response: requests.Response) -> None:
    """Read what is left of a response, if that is little, so that its connection can be used again; close it."""
    try:
        if response.request.method == "HEAD":
            response.raw.read(decode_content=False)  # which is nothing, and frees the connection
        else:
            for _piece in _pieces(response, _MAX_DISCARDED, _SHORT_PATIENCE, "what nobody needs"):
                pass
    except Unreachable:
        pass
    except Exception as error:  # a broken connection is closed below like any other
        if not is_broken(error):
            raise
    response.close()


def is_broken(error: Exception) -> bool:
    """Tell whether it is a broken connection: an error of a socket, of urllib3 or of http.client."""
    return isinstance(error, (OSError, ValueError)) or type(error).__module__.partition(".")[0] in ("urllib3", "http")


def is_slow(error: BaseException) -> bool:
    """Tell whether a connection was given up since next to nothing came."""
    return isinstance(innermost(error), Stalled)


def innermost(error: BaseException) -> BaseException:
    """Return the cause of all that libraries made of it."""
    inner: Any = error
    for _depth in range(8):
        following = getattr(inner, "reason", None) or getattr(inner, "original_error", None)
        following = following or inner.__cause__ or inner.__context__
        # what came before an exception of another kind has nothing to do with it
        if not isinstance(following, Exception) or not is_broken(following):
            break
        inner = following
    return cast(BaseException, inner)


def reason(error: BaseException) -> str:
    """Return the innermost cause in one line, without addresses of Python objects and secrets of web addresses."""
    inner = innermost(error)
    text = masked(str(inner)) or type(inner).__name__
    text = re.sub(r"<[^<>]*object at 0x[0-9a-f]+>:? ?", "", text[:2000])
    text = re.sub(r"//[^\s/@]*@", "//", text)
    return shown(re.sub(r"\?[^\s'\")]+", "?…", text))  # the query of an address may be a secret


def _is_encoded(response: requests.Response) -> bool:
    return response.headers.get("Content-Encoding", "").strip().lower() not in ("", "identity")


def _need_all(response: requests.Response, received: int, what: object) -> None:
    """Refuse a body that ended before its promised length, which urllib3 before 2 takes for whole."""
    promised = content_length(response)
    if promised is not None and received < promised:
        raise Unreachable(f"the connection broke while reading {what}: {received} of {promised} bytes came")
