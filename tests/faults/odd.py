# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A registry that is odd by repository name: ``ODDITY/REPOSITORY`` is ``REPOSITORY`` of the real one, oddly served.

with odd.registry("http://127.0.0.1:5000") as registry:
    …                       # pull f"{registry.address}/head-405/lab/tiny:1.0"

A row is one oddity that real registries have. ``FAULTS`` serve what the real one has in another way; ``REWORKED`` make
other documents of it, with digests of their own. All of them are images that must be served all the same.
"""

from __future__ import annotations

import base64
import gzip
import itertools
import json
import re
import threading
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tests.faults import faults
from tests.faults.server import Answer, Fault, FaultyRegistry, Request, Upstream
from tests.lab.oci import digest_of

ELSEWHERE = "/elsewhere/"
"""The path of the foreign layers: it is not part of the registry's API."""

LOGIN = ("me", "secret")
"""The login that some of the rows want."""

_ZEROS = "sha256:" + 64 * "0"
_CUT = 1000  # bytes of a layer that come before its connection breaks


def registry(upstream: str, certificate: Any = None) -> FaultyRegistry:
    """Return the registry with all rows, in front of a real one; more can be added with ``add``."""
    made = FaultyRegistry(upstream, certificate)
    made.when("^/v2/$", faults.challenged('Basic realm="the door"', {faults.basic(*LOGIN)}))
    for name, fault in {**FAULTS, **GUARDED}.items():
        add(made, name, fault)
    for name, rework in REWORKED.items():
        add(made, name, _Reworked(made, name, rework))
    return made


def add(registry: FaultyRegistry, name: str, fault: Fault) -> None:
    """Let a fault serve all repositories below a name; it sees the request as the real registry knows it."""
    prefix = f"/v2/{name}/"

    def below(request: Request, upstream: Upstream) -> Answer:
        return fault(replace(request, path="/v2/" + request.path.removeprefix(prefix)), upstream)

    registry.when(f"^{re.escape(prefix)}", below)


def serve(registry: FaultyRegistry, content: bytes) -> list[str]:
    """Let it be a web server, too, with a file at an address for each row of ``WEB``; returns these."""
    for name, fault in WEB.items():
        registry.when(f"^/{name}/app\\.sif$", fault(content))
    return [f"{registry.url}/{name}/app.sif" for name in WEB]


def on(pattern: str, fault: Fault, method: str | None = None) -> Fault:
    """Restrict a fault to some requests; the real registry answers the others."""

    def some(request: Request, upstream: Upstream) -> Answer:
        if method in (None, request.method) and re.search(pattern, request.path):
            return fault(request, upstream)
        return upstream(request)

    return some


def _head(fault: Fault) -> Fault:
    return on("/manifests/", fault, "HEAD")


def _digest(value: str) -> Fault:
    """Name each manifest's digest in the answer to a GET as to a HEAD; with ``{}`` it is the true one."""

    def fault(request: Request, upstream: Upstream) -> Answer:
        answer = upstream(request)
        return answer.with_header("Docker-Content-Digest", value.format(answer.header("Docker-Content-Digest")))

    return on("/manifests/", fault)


def _another_each_time() -> Fault:
    numbers = itertools.count(1)
    return lambda request, upstream: upstream(request).with_header(
        "Docker-Content-Digest", f"sha256:{next(numbers):064x}"
    )


def _signed(row: str) -> Fault:
    """Serve blobs at an address that is signed as it is written; other letters that mean the same are refused."""
    signature = "?X-Sig=a%7Eb%2d%2D~c%2fd&n=1"

    def fault(request: Request, upstream: Upstream) -> Answer:
        path, mark, _query = request.path.partition("?")
        if request.path.endswith(signature):
            return upstream(replace(request, path=path))
        if mark:
            return Answer(403)
        return Answer(307, {"Location": f"/v2/{row}/{path.removeprefix('/v2/')}{signature}"})

    return on("/blobs/", fault)


def _led(row: str, hops: int) -> Fault:
    """Serve everything, but after so many redirects."""

    def fault(request: Request, upstream: Upstream) -> Answer:
        path, _mark, query = request.path.partition("?")
        hop = int(query.removeprefix("hop=") or 0)
        if hop == hops:
            return upstream(replace(request, path=path))
        return Answer(307, {"Location": f"/v2/{row}/{path.removeprefix('/v2/')}?hop={hop + 1}"})

    return fault


def _other_scope(row: str) -> Fault:
    """Name in a challenge the repository as the registry knows it inside; a token for ours alone opens nothing."""

    def fault(request: Request, upstream: Upstream) -> Answer:
        if request.path.startswith("/v2/token"):
            wide = "repository%3Ainside%2F" in request.path and "repository%3A" + row in request.path
            return faults.document({"token": "wide" if wide else "narrow"})(request, upstream)
        repository = re.split("/(?:manifests|blobs|tags)/", request.path.removeprefix("/v2/"))[0]
        realm = f"http://{request.headers['host']}/v2/{row}/token"
        challenge = f'Bearer realm="{realm}",service="s",scope="repository:inside/{repository}:pull"'
        return faults.challenged(challenge, {"Bearer wide"})(request, upstream)

    return fault


def _veiled(answer: Fault) -> Fault:
    """Tell a client without a login that there is nothing, or nothing for it; only the door, ``/v2/``, asks."""

    def fault(request: Request, upstream: Upstream) -> Answer:
        if request.headers.get("authorization") == faults.basic(*LOGIN):
            return upstream(request.with_header("authorization", None))
        return answer(request, upstream)

    return fault


FAULTS: dict[str, Fault] = {
    **{f"head-{code}": _head(faults.status(code)) for code in (400, 401, 403, 404, 405, 406, 500, 501)},
    "head-429": _head(faults.status(429, {"Retry-After": "0"})),
    "head-dropped": _head(faults.dropped()),
    "head-lies": _head(faults.header("Docker-Content-Digest", _ZEROS)),
    "head-random": _head(_another_each_time()),
    "head-without-digest": _head(faults.header("Docker-Content-Digest", None)),
    "head-empty": _head(faults.status(200)),
    "digest-twice": _digest("{0}, {0}"),
    "digest-quoted": _digest('"{0}"'),
    "digest-unnamed": _digest("0123456789abcdef"),
    "digest-short": _digest("sha256:0123"),
    "redirect-signed": _signed("redirect-signed"),
    "redirect-10-times": _led("redirect-10-times", 10),
    "scope-other": _other_scope("scope-other"),
    "l" * 241: lambda request, upstream: upstream(request),
}
"""Rows that serve the real registry's own documents. The last one is a repository path of 250 characters."""

GUARDED: dict[str, Fault] = {
    **{f"veiled-{code}": _veiled(faults.status(code)) for code in (401, 403, 404)},
    "veiled-dumb": _veiled(faults.status(401, {"WWW-Authenticate": "Negotiate"})),
}
"""As ``FAULTS``, for who has ``LOGIN``."""


@dataclass
class Work:
    """The work on an image: its manifest, and the blobs that only this registry has; None is one that it lacks."""

    base: str
    manifest: dict[str, Any]
    blob: Callable[[str], bytes]
    blobs: dict[str, bytes | None] = field(default_factory=dict)
    elsewhere: dict[str, bytes] = field(default_factory=dict)

    def config(self, change: Callable[[dict[str, Any]], object]) -> None:
        """Let the config be another one."""
        document = json.loads(self.blob(self.manifest["config"]["digest"]))
        change(document)
        self._place(self.manifest["config"], json.dumps(document).encode())

    def layer(self, mark: str) -> bytes:
        """Let the newest layer be another blob with the same content, which no other image has."""
        tar = gzip.decompress(self.blob(self.manifest["layers"][-1]["digest"]))
        blob = gzip.compress(tar, 6, mtime=zlib.crc32(mark.encode()) & 0x7FFFFFFF)
        self._place(self.manifest["layers"][-1], blob)
        return blob

    def _place(self, descriptor: dict[str, Any], content: bytes) -> None:
        descriptor.update(digest=digest_of(content), size=len(content))
        self.blobs[descriptor["digest"]] = content


Rework = Callable[[Work, str], Fault | None]


def _foreign(work: Work, name: str) -> None:
    blob = work.layer(name)
    layer = work.manifest["layers"][-1]
    layer["mediaType"] = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
    layer["urls"] = ["ftp://127.0.0.1/no", f"{work.base}{ELSEWHERE}missing", f"{work.base}{ELSEWHERE}{layer['digest']}"]
    work.blobs[layer["digest"]] = None
    work.elsewhere[layer["digest"]] = blob


def _inline_config(work: Work, name: str) -> None:
    work.config(lambda document: document.update(author=name))
    _inline(work, work.manifest["config"])


def _inline_layer(work: Work, name: str) -> None:
    work.layer(name)
    _inline(work, work.manifest["layers"][-1])


def _inline(work: Work, descriptor: dict[str, Any]) -> None:
    content = work.blobs[descriptor["digest"]]
    descriptor["data"] = base64.b64encode(content or b"").decode()
    work.blobs[descriptor["digest"]] = None


def _wrong_inline(work: Work, name: str) -> None:
    work.config(lambda document: document.update(author=name))
    work.manifest["config"]["data"] = base64.b64encode(b"{}").decode()


def _without_os(work: Work, _name: str) -> None:
    work.config(lambda document: document.pop("os"))


def _other_range(work: Work, name: str) -> Fault:
    work.layer(name)
    return _breaking(_another_part)


def _unsaid_range(work: Work, name: str) -> Fault:
    work.layer(name)
    return _breaking(_unnamed_part)


def _wrong_bytes(work: Work, name: str) -> Fault:
    work.layer(name)
    return _breaking(lambda answer, begin: replace(_part(answer, begin), body=bytes(len(answer.body) - begin)))


def _too_many_bytes(work: Work, name: str) -> Fault:
    work.layer(name)
    return _breaking(lambda answer, begin: replace(_part(answer, begin), body=answer.body))


def _breaking(resumed: Callable[[Answer, int], Answer]) -> Fault:
    """Break a layer off the first time, and send wrong bytes for its rest. From then on it comes whole."""
    first = threading.Event()

    def fault(request: Request, upstream: Upstream) -> Answer:
        begin = re.match(r"bytes=(\d+)-", request.headers.get("range", ""))
        answer = upstream(request)
        if len(answer.body) <= _CUT:  # the config
            return answer
        if begin:
            return resumed(answer, int(begin.group(1)))
        if first.is_set():
            return answer
        first.set()
        return replace(answer, cut=_CUT)

    return on("/blobs/", fault, "GET")


def _part(whole: Answer, begin: int) -> Answer:
    size = len(whole.body)
    return replace(
        whole.with_header("Content-Range", f"bytes {begin}-{size - 1}/{size}"), status=206, body=whole.body[begin:]
    )


def _another_part(whole: Answer, begin: int) -> Answer:
    return _part(whole, begin + 7)


def _unnamed_part(whole: Answer, begin: int) -> Answer:
    return _another_part(whole, begin).with_header("Content-Range", None)


REWORKED: dict[str, Rework] = {
    "layer-elsewhere": _foreign,
    "config-inline": _inline_config,
    "layer-inline": _inline_layer,
    "inline-wrong": _wrong_inline,
    "config-without-os": _without_os,
    "range-other": _other_range,
    "range-unsaid": _unsaid_range,
    "resumed-wrong": _wrong_bytes,
    "resumed-too-long": _too_many_bytes,
}
"""Rows with documents of their own."""


def _web_head(fault: Fault) -> Callable[[bytes], Fault]:
    def serve(content: bytes) -> Fault:
        rest = faults.served(content, '"one"')
        return lambda request, upstream: (fault if request.method == "HEAD" else rest)(request, upstream)

    return serve


def _length(size: int) -> Fault:
    return lambda _request, _upstream: Answer(200, {"ETag": '"one"', "Content-Length": str(size)})


def _new_each_time(form: str, header: str) -> Callable[[bytes], Fault]:
    numbers = itertools.count(10)
    return lambda content: (
        lambda request, upstream: faults.served(content)(request, upstream).with_header(
            header, form.format(next(numbers) % 50 + 10)
        )
    )


def _web_breaking(resumed: Callable[[Answer, int], Answer]) -> Callable[[bytes], Fault]:
    def serve(content: bytes) -> Fault:
        broken = _breaking(resumed)
        file = faults.served(content, '"one"')

        def fault(request: Request, _upstream: Upstream) -> Answer:
            if request.headers.get("range") == "bytes=0-0":
                return file(request, _upstream)
            whole = replace(request, path="/blobs/")
            return broken(whole, lambda passed: file(passed.with_header("range", None), _upstream))

        return fault

    return serve


WEB: dict[str, Callable[[bytes], Fault]] = {
    **{f"web-head-{code}": _web_head(faults.status(code)) for code in (400, 401, 403, 404, 405, 500, 501)},
    "web-head-dropped": _web_head(faults.dropped()),
    "web-head-long": _web_head(_length(10**15)),
    "web-head-short": _web_head(_length(1)),
    "web-head-zero": _web_head(_length(0)),
    "web-head-page": _web_head(faults.says(b"", headers={"Content-Type": "text/html", "ETag": '"page"'})),
    "web-head-other": _web_head(faults.says(b"", headers={"ETag": '"other"', "Content-Length": "5"})),
    "web-without-ranges": lambda content: faults.served(content, '"one"', ranges=False),
    "web-etag-new": _new_each_time('"{}"', "ETag"),
    "web-etag-weak-new": _new_each_time('W/"{}"', "ETag"),
    "web-date-new": _new_each_time("Sun, 22 Nov 2026 06:00:{} GMT", "Last-Modified"),
    "web-range-other": _web_breaking(_another_part),
    "web-range-unsaid": _web_breaking(_unnamed_part),
}
"""Rows of web servers: how each serves the content of a file. It is the same content each time."""


class _Reworked:
    """Serves what a rework makes of each image; made when its tag is first asked for."""

    def __init__(self, registry: FaultyRegistry, name: str, rework: Rework) -> None:
        self._registry = registry
        self._name = name
        self._rework = rework
        self._lock = threading.Lock()
        self._answers: dict[str, Answer] = {}
        self._faults: dict[str, Fault] = {}

    def __call__(self, request: Request, upstream: Upstream) -> Answer:
        repository, kind = re.split("/(manifests|blobs|tags)/", request.path.removeprefix("/v2/"))[:2]
        with self._lock:
            if kind == "manifests" and ":" not in request.path and request.path not in self._answers:
                self._make(request, repository, upstream)
        fault = self._faults.get(repository)
        return fault(request, self._upstream(upstream)) if fault else self._upstream(upstream)(request)

    def _upstream(self, upstream: Upstream) -> Upstream:
        def ask(request: Request) -> Answer:
            answer = self._answers.get(request.path)
            if answer is None:
                return upstream(request)
            if request.method != "HEAD":
                return answer
            return replace(answer, body=b"").with_header("Content-Length", str(len(answer.body)))

        return ask

    def _make(self, request: Request, repository: str, upstream: Upstream) -> None:
        def blob(digest: str) -> bytes:
            return upstream(_get(f"/v2/{repository}/blobs/{digest}")).body

        real = upstream(replace(request, method="GET"))
        work = Work(self._registry.url, json.loads(real.body), blob)
        fault = self._rework(work, self._name)
        if fault:
            self._faults[repository] = fault
        content = json.dumps(work.manifest).encode()
        answer = Answer(200, _typed(work.manifest["mediaType"], content), content)
        self._answers[request.path] = self._answers[f"/v2/{repository}/manifests/{digest_of(content)}"] = answer
        for digest, body in work.blobs.items():
            found = Answer(404) if body is None else Answer(200, _typed("application/octet-stream", body), body)
            self._answers[f"/v2/{repository}/blobs/{digest}"] = found
        for digest, body in work.elsewhere.items():
            self._registry.when(f"^{ELSEWHERE}{digest}", faults.served(body))


def _get(path: str) -> Request:
    return Request("GET", path, {})


def _typed(kind: str, content: bytes) -> Mapping[str, str]:
    return {"Content-Type": kind, "Docker-Content-Digest": digest_of(content)}
