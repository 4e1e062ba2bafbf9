# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The faults: each says how a request is answered, most of them from what the real registry would have said."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import replace

from tests.faults.server import Answer, Fault, Request, Upstream


def status(code: int, headers: Mapping[str, str] | None = None, word: str = "", message: str = "") -> Fault:
    """Give a status, and the registry's own words if there are any (distribution specification, "Error Codes")."""
    document = {"errors": [{"code": word, "message": message}]} if word or message else {}
    return says(json.dumps(document).encode(), code, {"Content-Type": "application/json", **(headers or {})})


def says(body: bytes, code: int = 200, headers: Mapping[str, str] | None = None) -> Fault:
    """Give this whole answer."""
    return lambda _request, _upstream: Answer(code, dict(headers or {}), body)


def document(content: object) -> Fault:
    """Give a JSON document."""
    return says(json.dumps(content).encode(), headers={"Content-Type": "application/json"})


def body(content: bytes) -> Fault:
    """Give the real headers with another body."""
    return lambda request, upstream: replace(upstream(request), body=content)


def header(name: str, value: str | None) -> Fault:
    """Give the real answer with another header, or without it."""
    return lambda request, upstream: upstream(request).with_header(name, value)


def asks_for(name: str, value: str | None) -> Fault:
    """Give the real answer to the request with another header, or without it: no Range, another Accept."""
    return lambda request, upstream: upstream(request.with_header(name, value))


def truncated(size: int, stall: float = 0.0) -> Fault:
    """Send the first bytes of the body, then close the connection, ``stall`` seconds later."""
    return lambda request, upstream: replace(upstream(request), cut=size, stall=stall)


def corrupted(position: int = -1) -> Fault:
    """Change one byte of the body."""

    def fault(request: Request, upstream: Upstream) -> Answer:
        answer = upstream(request)
        damaged = bytearray(answer.body)
        if damaged:
            damaged[position] ^= 0x01
        return replace(answer, body=bytes(damaged))

    return fault


def padded(extra: bytes) -> Fault:
    """Give more bytes than there should be."""

    def fault(request: Request, upstream: Upstream) -> Answer:
        answer = upstream(request)
        return replace(answer, body=answer.body + extra)

    return fault


def delayed(seconds: float) -> Fault:
    """Give the real answer, later."""
    return lambda request, upstream: replace(upstream(request), delay=seconds)


def slowed(rate: int) -> Fault:
    """Give the real answer, with a body of so many bytes a second."""
    return lambda request, upstream: replace(upstream(request), rate=rate)


def dropped() -> Fault:
    """Close the connection without an answer."""
    return lambda _request, _upstream: Answer(0)


def redirected(base: str, code: int = 307) -> Fault:
    """Redirect to the same path elsewhere."""
    return lambda request, _upstream: Answer(code, {"Location": base + request.path})


def challenged(challenge: str, accepted: Collection[str]) -> Fault:
    """Give status 401 with a challenge, unless the request has one of the accepted Authorization headers."""

    def fault(request: Request, upstream: Upstream) -> Answer:
        if request.headers.get("authorization") in accepted:
            return upstream(request.with_header("authorization", None))
        content = json.dumps({"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]}).encode()
        return Answer(401, {"WWW-Authenticate": challenge, "Content-Type": "application/json"}, content)

    return fault


def basic(username: str, password: str) -> str:
    """Return the Authorization header of a login."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def together(*faults: Fault) -> Fault:
    """Give several faults at once; the first sees the real registry through the others."""
    first, *others = faults
    if not others:
        return first
    rest = together(*others)
    return lambda request, upstream: first(request, lambda passed: rest(passed, upstream))


def served(
    content: bytes,
    etag: str | None = None,
    last_modified: str | None = None,
    content_type: str = "application/octet-stream",
    ranges: bool = True,
) -> Fault:
    """Serve a file as a web server does: whole, its headers alone, or from an offset on while it is the same.

    Source: RFC 9110, sections 13.1.5 and 14.
    """
    validators = {"ETag": etag, "Last-Modified": last_modified, "Content-Type": content_type}
    headers = {name: value for name, value in validators.items() if value}

    def fault(request: Request, _upstream: Upstream) -> Answer:
        if request.method == "HEAD":
            return Answer(200, {**headers, "Content-Length": str(len(content))})
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
        same = request.headers.get("if-range") in (None, etag, last_modified)
        if not (span and ranges and same):
            return Answer(200, headers, content)
        begin, end = int(span.group(1)), int(span.group(2) or len(content) - 1)
        if begin >= len(content):
            return Answer(416, {"Content-Range": f"bytes */{len(content)}"})
        return Answer(
            206, {**headers, "Content-Range": f"bytes {begin}-{end}/{len(content)}"}, content[begin : end + 1]
        )

    return fault
