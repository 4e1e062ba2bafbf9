# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a server answered, read without trusting it: nothing is decompressed, and nothing is read without a bound."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from .address import host_of
from .errors import InvalidManifest, RegistryError, Unreachable
from .late import importing
from .reference import shown

if TYPE_CHECKING:
    import requests

CHUNK = 256 * 1024  # bytes read at a time; as much may be lost when a connection breaks

_MAX_DISCARDED = 64 * 1024  # bytes; reading that much is cheaper than a new connection
_MAX_WORDS = 64 * 1024  # bytes
_PATIENCE = 120.0  # seconds for a whole document
_SHORT_PATIENCE = 15.0  # for what is of little use


def content(response: requests.Response, limit: int, what: object) -> bytes:
    """All of a document, as it came: nothing is decompressed, for a few bytes can hold gigabytes.

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
    with importing:
        from .deadline import ending  # many runs get no document at all

    parts: list[bytes] = []
    total = 0
    with ending(response, _PATIENCE) as late:
        try:
            while total <= limit:
                chunk = response.raw.read(65536, decode_content=False)
                if not chunk:
                    break
                total += len(chunk)
                parts.append(chunk)
        except Exception as error:
            if not is_broken(error):
                raise
            if not late.is_set():
                raise Unreachable(
                    f"the connection to {host_of(response.url)} broke while reading {what}: {reason(error)}"
                ) from error
    if total > limit:
        raise InvalidManifest(f"{host_of(response.url)} sent more than {limit} bytes for {what}; that is no manifest")
    if late.is_set():
        raise Unreachable(
            f"{host_of(response.url)} sends {what} so slowly that it was not there after {_PATIENCE:.0f} s; try again "
            "later, or ask whoever runs it"
        )
    _need_all(response, total, what)
    return b"".join(parts)


def chunks(response: requests.Response, what: object) -> Iterator[bytes]:
    """A body of any length, as it comes.

    :raises Unreachable: while reading, when the connection breaks.
    """
    received = 0
    try:
        while True:
            chunk = response.raw.read(CHUNK, decode_content=False)
            if not chunk:
                break
            received += len(chunk)
            yield chunk
    except Exception as error:
        if is_broken(error):
            raise Unreachable(f"the connection broke while reading {what}: {reason(error)}") from error
        raise
    _need_all(response, received, what)


def said(response: requests.Response, secrets: Iterable[str] = ()) -> str:
    """A server's own words for a refusal, shortened; empty if it has none.

    :param secrets: what must not show in them. They are hidden first: of one that is cut, nobody would know the rest.

    Registries write ``errors`` (distribution specification, "Error Codes"), token servers ``details`` (Docker's and
    distribution's) or ``error`` and ``error_description`` (RFC 6749, section 5.2).
    """
    with importing:
        from .deadline import ending  # most answers are no refusal

    if _is_encoded(response):
        return ""
    try:
        with ending(response, _SHORT_PATIENCE):
            document = json.loads(response.raw.read(_MAX_WORDS, decode_content=False))
        if "errors" in document:
            words = "; ".join(_joined(each, "code", "message") for each in document["errors"])
        else:
            words = _joined(document, "error", "error_description", "details", "message")
    except (KeyError, TypeError, AttributeError, RecursionError):
        return ""
    except Exception as error:  # it is no JSON, or the connection broke
        if is_broken(error):
            return ""
        raise
    for secret in secrets:
        words = words.replace(secret, "********")
    return shown(words)


def _joined(document: Any, *keys: str) -> str:
    return " ".join(str(document.get(key)) for key in keys if document.get(key))


def media_type(response: requests.Response) -> str:
    """The ``Content-Type`` without its parameters."""
    return shown(response.headers.get("Content-Type", "").partition(";")[0].strip())


def content_length(response: requests.Response) -> int | None:
    """The length that was promised, in bytes; None if that is no number."""
    text = response.headers.get("Content-Length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None


def discard(response: requests.Response) -> None:
    """Have done with a response; its connection is used again if there is little left to read from it."""
    try:
        if response.request.method == "HEAD":
            response.raw.read(decode_content=False)  # which is nothing, and frees the connection
        else:
            with importing:
                from .deadline import ending

            with ending(response, _SHORT_PATIENCE):
                response.raw.read(_MAX_DISCARDED, decode_content=False)
    except Exception as error:  # a broken connection is closed below like any other
        if not is_broken(error):
            raise
    response.close()


def is_broken(error: Exception) -> bool:
    """Plain socket errors, urllib3's own exceptions and http.client's: all of them are a broken connection."""
    return isinstance(error, (OSError, ValueError)) or type(error).__module__.partition(".")[0] in ("urllib3", "http")


def reason(error: BaseException) -> str:
    """The innermost cause in one line, without the addresses of Python objects."""
    inner: Any = error
    for _depth in range(8):
        following = getattr(inner, "reason", None) or inner.__cause__ or inner.__context__
        # what came before an exception of another kind has nothing to do with it
        if not isinstance(following, Exception) or not is_broken(following):
            break
        inner = following
    text = str(inner) or type(inner).__name__
    text = re.sub(r"<[^<>]*object at 0x[0-9a-f]+>:? ?", "", text[:2000])
    return shown(re.sub(r"\?[^\s'\")]+", "?…", text))  # the query of an address may be a secret


def _is_encoded(response: requests.Response) -> bool:
    return response.headers.get("Content-Encoding", "").strip().lower() not in ("", "identity")


def _need_all(response: requests.Response, received: int, what: object) -> None:
    """Refuse a body that ended before its promised length, which urllib3 before 2 takes for whole."""
    promised = content_length(response)
    if promised is not None and received < promised:
        raise Unreachable(f"the connection broke while reading {what}: {received} of {promised} bytes came")
