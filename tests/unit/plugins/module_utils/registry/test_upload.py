# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Content on its way into a real registry, and into one that misbehaves."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import (
    Denied,
    DigestMismatch,
    NotFound,
    RegistryError,
    StorageError,
    Unauthorized,
)
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.descriptor import Descriptor
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.platform import Platform
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.reference import Reference
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.registry import artifact, upload
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.registry.artifact import Parcel
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.registry.client import Registry
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.transport.http import Connections, HttpRequest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.transport.options import Transport
from ansible_collections.hpc.sregistry.tests.unit.plugins.module_utils.conftest import Connect, Stored

from tests.faults import Answer, Fault, FaultyRegistry, Request, faults
from tests.faults.server import Upstream

LOGIN = ("alice", "correct horse")
UPLOADS = "/blobs/uploads/"
BLOBS = "/blobs/sha256"
PIECE = 64


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pieces be of 64 bytes, 4 at the least."""
    monkeypatch.setattr(upload, "_PIECE", PIECE)
    monkeypatch.setattr(upload, "_SMALLEST_PIECE", 4)


@pytest.fixture
def content() -> bytes:
    """Return three pieces and a bit, which no registry has."""
    return (uuid.uuid4().bytes * 16)[: 3 * PIECE + 10]


@pytest.fixture
def repository() -> str:
    """Return a repository of its own for each test."""
    return f"pushed/{uuid.uuid4().hex}"


def descriptor(content: bytes) -> Descriptor:
    return Descriptor(f"sha256:{hashlib.sha256(content).hexdigest()}", len(content))


def put(session: Registry, repository: str, content: bytes, mount_from: str | None = None) -> str:
    return upload.put_blob(session, repository, descriptor(content), io.BytesIO(content), mount_from)


def has(stored: Stored, repository: str, content: bytes) -> bool:
    """Tell whether the real registry gives this very content out."""
    url = f"{stored.url}/v2/{repository}/blobs/{descriptor(content).digest}"
    return requests.get(url, timeout=20).content == content


def ranges(faulty: FaultyRegistry) -> list[tuple[str | None, int]]:
    """Return the pieces that were sent, and the registry's answers."""
    return [(one.headers.get("content-range"), one.status) for one in faulty.asked(UPLOADS, "PATCH")]


def beginnings(faulty: FaultyRegistry) -> int:
    return len(faulty.asked(UPLOADS, "POST"))


def partly(size: int, known: list[Answer]) -> Fault:
    """Give the registry the first bytes of a piece only, and the client no answer; what it would have been is known."""

    def fault(request: Request, upstream: Upstream) -> Answer:
        begin = int(request.headers["content-range"].partition("-")[0])
        cut = replace(request, body=request.body[:size])
        known.append(upstream(cut.with_header("content-range", f"{begin}-{begin + size - 1}")))
        return Answer(0)

    return fault


def unheard(code: int = 0) -> Fault:
    """Let the registry do it, and tell the client otherwise, or nothing."""

    def fault(request: Request, upstream: Upstream) -> Answer:
        upstream(request)
        return Answer(code)

    return fault


# Ways to send


def test_a_large_blob_goes_in_pieces_and_is_there_afterwards(
    stored: Stored, faulty: FaultyRegistry, connect: Connect, repository: str, content: bytes
) -> None:
    assert put(connect(faulty.address), repository, content) == upload.SENT
    assert has(stored, repository, content)
    assert ranges(faulty) == [("0-63", 202), ("64-127", 202), ("128-191", 202), ("192-201", 202)]
    assert [one.method for one in faulty.requests] == ["HEAD", "POST", *["PATCH"] * 4, "PUT"]
    assert not faulty.asked(UPLOADS, "PUT")[0].body


def test_a_small_blob_goes_at_once(
    stored: Stored, faulty: FaultyRegistry, connect: Connect, repository: str, content: bytes
) -> None:
    assert put(connect(faulty.address), repository, content[:PIECE]) == upload.SENT
    assert has(stored, repository, content[:PIECE])
    assert [one.method for one in faulty.requests] == ["HEAD", "POST", "PUT"]


def test_what_is_there_is_not_sent(faulty: FaultyRegistry, connect: Connect, repository: str, content: bytes) -> None:
    put(connect(faulty.address), repository, content)
    faulty.calm()
    assert put(connect(faulty.address), repository, content) == upload.THERE
    assert [one.method for one in faulty.requests] == ["HEAD"]


@pytest.mark.parametrize("code", [400, 403, 405, 406, 501])
def test_where_no_head_is_allowed_a_blob_is_sent(
    code: int, stored: Stored, faulty: FaultyRegistry, connect: Connect, repository: str, content: bytes
) -> None:
    faulty.when(BLOBS, faults.status(code), "HEAD")
    assert put(connect(faulty.address), repository, content[:PIECE]) == upload.SENT
    assert has(stored, repository, content[:PIECE])


def test_what_another_repository_has_is_mounted(
    stored: Stored, faulty: FaultyRegistry, connect: Connect, repository: str, content: bytes
) -> None:
    put(connect(stored.address), f"{repository}/lender", content)
    assert put(connect(faulty.address), repository, content, f"{repository}/lender") == upload.MOUNTED
    assert has(stored, repository, content)
    assert [(one.method, one.status) for one in faulty.requests] == [("HEAD", 404), ("POST", 201)]


@pytest.mark.parametrize("code", [202, 401, 403, 404])
def test_what_cannot_be_mounted_is_sent(
    code: int, stored: Stored, faulty: FaultyRegistry, connect: Connect, repository: str, content: bytes
) -> None:
    if code != 202:  # which the real registry says of a lender that has nothing
        faulty.when(r"uploads/\?mount=", faults.status(code))
    assert put(connect(faulty.address), repository, content, f"{repository}/lender") == upload.SENT
    assert has(stored, repository, content)
    assert faulty.asked(UPLOADS, "POST")[0].status == code
    assert beginnings(faulty) == (1 if code == 202 else 2)


# Connections that break


def test_a_piece_that_did_not_arrive_is_sent_again(
    stored: Stored, faulty: FaultyRegistry, connect: Connect, pauses: list[float], repository: str, content: bytes
) -> None:
    faulty.when(UPLOADS, faults.dropped(), "PATCH", times=1, after=1)
    assert put(connect(faulty.address), repository, content) == upload.SENT
    assert has(stored, repository, content)
    assert ranges(faulty)[:3] == [("0-63", 202), ("64-127", 0), ("64-79", 202)]
    assert beginnings(faulty) == 1
    assert len(pauses) == 1


@pytest.mark.parametrize("tells", [True, False])
def test_a_piece_of_which_some_arrived_goes_on_where_the_registry_says(
    tells: bool,
    stored: Stored,
    faulty: FaultyRegistry,
    connect: Connect,
    pauses: list[float],
    repository: str,
    content: bytes,
) -> None:
    known: list[Answer] = []
    faulty.when(UPLOADS, partly(20, known), "PATCH", times=1, after=1)
    if tells:  # the real one answers 404: it wants to hear of no upload that broke off within a piece
        faulty.when(UPLOADS, lambda _request, _upstream: replace(known[0], status=204), "GET")
    assert put(connect(faulty.address), repository, content) == upload.SENT
    assert has(stored, repository, content)
    assert [one for one, _status in ranges(faulty)][1:3] == ["64-127", "84-147" if tells else "0-63"]
    assert beginnings(faulty) == (1 if tells else 2)


def test_what_breaks_off_without_progress_goes_on_in_smaller_pieces(
    stored: Stored, faulty: FaultyRegistry, connect: Connect, pauses: list[float], repository: str, content: bytes
) -> None:
    faulty.when(UPLOADS, lambda request, upstream: Answer(0) if len(request.body) > 4 else upstream(request), "PATCH")
    assert put(connect(faulty.address), repository, content[:68]) == upload.SENT
    assert has(stored, repository, content[:68])
    assert [one for one, _status in ranges(faulty)][:4] == ["0-63", "0-15", "0-3", "4-7"]
    assert beginnings(faulty) == 1


@pytest.mark.parametrize("code", [400, 404, 416, 503])
def test_an_upload_that_the_registry_forgot_begins_anew(
    code: int,
    stored: Stored,
    faulty: FaultyRegistry,
    connect: Connect,
    pauses: list[float],
    repository: str,
    content: bytes,
) -> None:
    faulty.when(UPLOADS, faults.status(code), "PATCH", times=1, after=1)
    faulty.when(UPLOADS, faults.status(404), "GET", times=1)
    assert put(connect(faulty.address), repository, content) == upload.SENT
    assert has(stored, repository, content)
    assert beginnings(faulty) == 2
    assert [one for one, _status in ranges(faulty)][:3] == ["0-63", "64-127", "0-63"]


def test_a_registry_that_takes_no_pieces_gets_all_at_once(
    stored: Stored, faulty: FaultyRegistry, connect: Connect, pauses: list[float], repository: str, content: bytes
) -> None:
    faulty.when(UPLOADS, faults.status(400), "PATCH")
    assert put(connect(faulty.address), repository, content) == upload.SENT
    assert has(stored, repository, content)
    assert beginnings(faulty) == 4
    assert [one.body for one in faulty.asked(UPLOADS, "PUT")] == [content]


def test_who_never_takes_it_is_not_asked_for_ever(
    faulty: FaultyRegistry, connect: Connect, pauses: list[float], repository: str, content: bytes
) -> None:
    faulty.when(UPLOADS, faults.status(404), "PATCH")
    faulty.when(UPLOADS, faults.status(400), "PUT")
    with pytest.raises(RegistryError, match="sent from its beginning 4 times: status 400 at its end; ask whoever"):
        put(connect(faulty.address), repository, content)
    assert beginnings(faulty) == 4


def test_a_registry_that_goes_back_and_forth_is_not_asked_for_ever(
    faulty: FaultyRegistry, connect: Connect, pauses: list[float], repository: str, content: bytes
) -> None:
    faulty.when(UPLOADS, faults.dropped(), "PATCH", times=1, after=1)
    sayings = iter(["0-9", "0-0"] * 50)
    faulty.when(UPLOADS, faults.status(503), "PATCH")
    faulty.when(UPLOADS, lambda _request, _upstream: Answer(204, {"Range": next(sayings)}), "GET")
    faulty.when(UPLOADS, faults.status(400), "PUT")
    with pytest.raises(RegistryError, match="sent from its beginning 4 times"):
        put(connect(faulty.address), repository, content)
    assert len(faulty.asked(UPLOADS, "PATCH")) < 20


def test_what_a_piece_is_answered_does_not_tell_how_far_it_came(
    stored: Stored, faulty: FaultyRegistry, connect: Connect, repository: str, content: bytes
) -> None:
    faulty.when(UPLOADS, faults.header("Range", "0-63"), "PATCH")
    assert put(connect(faulty.address), repository, content) == upload.SENT
    assert has(stored, repository, content)
    assert len(ranges(faulty)) == 4


@pytest.mark.parametrize("code", [0, 404, 500, 504])
@pytest.mark.parametrize("size", [PIECE, 3 * PIECE])
def test_the_answer_to_the_end_may_be_lost(
    code: int,
    size: int,
    stored: Stored,
    faulty: FaultyRegistry,
    connect: Connect,
    pauses: list[float],
    repository: str,
    content: bytes,
) -> None:
    faulty.when(UPLOADS, unheard(code), "PUT")
    assert put(connect(faulty.address), repository, content[:size]) == upload.SENT
    assert has(stored, repository, content[:size])
    assert beginnings(faulty) == 1


def test_a_registry_that_is_slow_at_the_end_is_waited_for(
    faulty: FaultyRegistry, connect: Connect, pauses: list[float], repository: str, content: bytes
) -> None:
    faulty.when(UPLOADS, unheard(504), "PUT")
    faulty.when(BLOBS, faults.status(404), "HEAD", times=3)
    assert put(connect(faulty.address), repository, content) == upload.SENT
    assert beginnings(faulty) == 1
    assert pauses == [0.0, 2.0, 5.0]


# Sizes


@pytest.mark.parametrize("code", [413, 416])
def test_pieces_that_are_too_large_become_smaller(
    code: int, stored: Stored, faulty: FaultyRegistry, connect: Connect, repository: str, content: bytes
) -> None:
    def limit(request: Request, upstream: Upstream) -> Answer:
        return Answer(code) if len(request.body) > 16 else upstream(request)

    faulty.when(UPLOADS, limit, "PATCH")
    assert put(connect(faulty.address), repository, content) == upload.SENT
    assert has(stored, repository, content)
    assert [one for one, _status in ranges(faulty)][:3] == ["0-63", "0-15", "16-31"]


def test_a_small_blob_that_is_too_large_goes_in_pieces(
    stored: Stored, faulty: FaultyRegistry, connect: Connect, repository: str, content: bytes
) -> None:
    faulty.when(UPLOADS, lambda request, upstream: Answer(413) if request.body[16:] else upstream(request), "PUT")
    assert put(connect(faulty.address), repository, content[:40]) == upload.SENT
    assert has(stored, repository, content[:40])
    assert [one for one, _status in ranges(faulty)] == ["0-15", "16-31", "32-39"]


def test_a_limit_that_is_too_low_is_said(
    faulty: FaultyRegistry, connect: Connect, repository: str, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "_PIECE", 4 * 2**20)
    monkeypatch.setattr(upload, "_SMALLEST_PIECE", 2**20)
    faulty.when(UPLOADS, faults.status(413), "PATCH")
    faulty.when(UPLOADS, faults.status(413), "PUT")
    with pytest.raises(RegistryError, match=r"even 1 MiB at once is too much \(status 413\); raise the limit of the"):
        put(connect(faulty.address), repository, content * 30_000)
    assert beginnings(faulty) == 2


@pytest.mark.parametrize(("least", "expected"), [("100", ["0-99", "100-199", "200-201"]), ("x", None), ("-1", None)])
def test_no_piece_is_smaller_than_the_registry_wants(
    least: str,
    expected: list[str] | None,
    stored: Stored,
    faulty: FaultyRegistry,
    connect: Connect,
    repository: str,
    content: bytes,
) -> None:
    faulty.when(UPLOADS, faults.header("OCI-Chunk-Min-Length", least), "POST")
    assert put(connect(faulty.address), repository, content) == upload.SENT
    assert has(stored, repository, content)
    usual = ["0-63", "64-127", "128-191", "192-201"]
    assert [one for one, _status in ranges(faulty)] == (expected or usual)


def test_pieces_that_no_memory_holds_are_refused(
    faulty: FaultyRegistry, connect: Connect, repository: str, content: bytes
) -> None:
    faulty.when(UPLOADS, faults.header("OCI-Chunk-Min-Length", "99999999999"), "POST")
    with pytest.raises(RegistryError, match="only in pieces of 99999999999 bytes"):
        put(connect(faulty.address), repository, content)


# Where it goes


def test_a_location_may_be_relative(
    stored: Stored, faulty: FaultyRegistry, connect: Connect, repository: str, content: bytes
) -> None:
    def relative(request: Request, upstream: Upstream) -> Answer:
        answer = upstream(request)
        url = urlsplit(answer.header("Location") or "")
        return answer.with_header("Location", f"{url.path}?{url.query}" if url.path else None)

    faulty.when(UPLOADS, relative)
    assert put(connect(faulty.address), repository, content) == upload.SENT
    assert has(stored, repository, content)


def test_the_login_does_not_go_elsewhere(
    stored: Stored, faulty: FaultyRegistry, connect: Connect, repository: str, content: bytes
) -> None:
    with FaultyRegistry(stored.url) as elsewhere:

        def away(request: Request, upstream: Upstream) -> Answer:
            answer = upstream(request)
            location = (answer.header("Location") or "").replace(faulty.address, elsewhere.address)
            return answer.with_header("Location", location)

        challenged = faults.challenged('Basic realm="r"', [faults.basic(*LOGIN)])
        faulty.when(UPLOADS, faults.together(away, challenged), "POST")
        faulty.when("/v2/", challenged)
        assert put(connect(faulty.address, LOGIN), repository, content) == upload.SENT
        assert has(stored, repository, content)
        assert {one.method for one in elsewhere.requests} == {"PATCH", "PUT"}
        assert not [one for one in elsewhere.requests if "authorization" in one.headers]
        assert [one.headers["authorization"] for one in faulty.asked(UPLOADS, "POST")] == [faults.basic(*LOGIN)]


def test_nothing_is_sent_without_tls_where_the_registry_has_it(
    stored: Stored, connect: Connect, tls: Path, repository: str, content: bytes
) -> None:
    with FaultyRegistry(stored.url, (tls / "server.pem", tls / "server.key")) as secure:
        session = connect(secure.address, http=False, verify=str(tls / "ca.pem"))
        with pytest.raises(RegistryError, match=r"wants the blob .* sent to http://.*, without TLS; whoever runs it"):
            put(session, repository, content)
        assert [one.method for one in secure.requests] == ["HEAD", "POST"]


@pytest.mark.parametrize("location", [None, "ftp://host/x", "http://[::1/x", "http://a\\@b/x"])
def test_a_registry_has_to_say_where(
    location: str | None, faulty: FaultyRegistry, connect: Connect, repository: str, content: bytes
) -> None:
    faulty.when(UPLOADS, faults.header("Location", location), "POST")
    with pytest.raises(RegistryError, match="does not say where to send the blob"):
        put(connect(faulty.address), repository, content)


@pytest.mark.parametrize("times", [2, 3])
def test_a_blob_that_is_unknown_for_a_moment_is_no_failure(
    times: int, faulty: FaultyRegistry, connect: Connect, pauses: list[float], repository: str
) -> None:
    parcel, session = Parcel(descriptor(b"a SIF"), "a.sif"), connect(faulty.address)
    name = Reference.parse(f"oras://{faulty.address}/{repository}:1")
    unknown = faults.status(400, word="MANIFEST_BLOB_UNKNOWN", message="blob unknown to registry")
    faulty.when("/manifests/", unknown, "PUT", times=times)
    if times == 2:
        artifact.push(session, name, parcel, io.BytesIO(b"a SIF"))
        assert session.get_or_none(name) is not None
    else:
        with pytest.raises(RegistryError, match="MANIFEST_BLOB_UNKNOWN blob unknown to registry"):
            artifact.push(session, name, parcel, io.BytesIO(b"a SIF"))
    assert len(pauses) == 2


def test_a_registry_that_wants_to_be_left_alone_for_long_is_not_waited_for(
    faulty: FaultyRegistry, connect: Connect, pauses: list[float], repository: str, content: bytes
) -> None:
    faulty.when(UPLOADS, faults.status(503, {"Retry-After": "90000"}), "PATCH")
    with pytest.raises(RegistryError, match="wants to be left alone for 90000 seconds while it is sent the blob"):
        put(connect(faulty.address), repository, content)
    assert pauses == []
    assert beginnings(faulty) == 1


def test_a_registry_that_comes_on_by_single_bytes_is_given_up(
    faulty: FaultyRegistry,
    connect: Connect,
    pauses: list[float],
    repository: str,
    content: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(upload, "_MAX_BREAKS", 10)
    monkeypatch.setattr(upload, "_SMALLEST_PIECE", PIECE)
    reached = itertools.count(1)
    faulty.when(UPLOADS, faults.status(503), "PATCH")
    faulty.when(UPLOADS, lambda _request, _upstream: Answer(204, {"Range": f"0-{next(reached)}"}, b""), "GET")
    faulty.when(UPLOADS, faults.status(404), "PUT")
    with pytest.raises(RegistryError, match="sent from its beginning 4 times"):
        put(connect(faulty.address), repository, content)
    assert len(faulty.asked(UPLOADS, "PATCH")) == 3 * (10 + len(content) // PIECE)


def test_content_does_not_follow_a_redirect_to_where_there_is_no_tls(tls: Path) -> None:
    with FaultyRegistry() as plain, FaultyRegistry(certificate=(tls / "server.pem", tls / "server.key")) as secure:
        secure.when("/", faults.redirected(plain.url))
        connections = Connections(Transport(verify=str(tls / "ca.pem"), timeout=20.0))
        with pytest.raises(RegistryError, match="without TLS; nothing was sent there"):
            connections.send(HttpRequest("PUT", f"{secure.url}/x", "it", content=b"content"))
        assert plain.requests == []


# Content


def test_content_that_is_another_one_by_now_is_said(
    faulty: FaultyRegistry, connect: Connect, pauses: list[float], repository: str, content: bytes
) -> None:
    wrong = io.BytesIO(bytes(len(content)))
    with pytest.raises(DigestMismatch, match=r"the content of the blob .* is another one; push it again"):
        upload.put_blob(connect(faulty.address), repository, descriptor(content), wrong)
    assert beginnings(faulty) == 1


def test_content_that_became_shorter_is_said(
    faulty: FaultyRegistry, connect: Connect, repository: str, content: bytes
) -> None:
    with pytest.raises(DigestMismatch, match="became shorter while it was pushed"):
        upload.put_blob(connect(faulty.address), repository, descriptor(content), io.BytesIO(content[:100]))


def test_content_that_cannot_be_read_is_said(
    faulty: FaultyRegistry, connect: Connect, repository: str, content: bytes
) -> None:
    class Bad(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            """Fail with an error of input or output."""
            raise OSError(5, "Input/output error")

    with pytest.raises(StorageError, match=r"cannot read the content of the blob .*: Input/output error"):
        upload.put_blob(connect(faulty.address), repository, descriptor(content), Bad(content))


# Logins


@pytest.fixture
def guarded(faulty: FaultyRegistry) -> FaultyRegistry:
    """Return a registry that everybody may read, and one may write."""
    faulty.when("/v2/.*uploads/", faults.challenged('Basic realm="r"', [faults.basic(*LOGIN)]))
    return faulty


def test_who_needs_a_login_gets_to_know_it(
    guarded: FaultyRegistry, connect: Connect, repository: str, content: bytes
) -> None:
    with pytest.raises(Unauthorized, match="wants a login for the blob"):
        put(connect(guarded.address), repository, content)


def test_a_wrong_login_is_named(guarded: FaultyRegistry, connect: Connect, repository: str, content: bytes) -> None:
    with pytest.raises(Unauthorized, match="check user name and password, and that this user may push it") as caught:
        put(connect(guarded.address, ("alice", "wrong horse")), repository, content)
    assert "wrong horse" not in str(caught.value)


def test_a_right_login_may_push(
    stored: Stored, guarded: FaultyRegistry, connect: Connect, repository: str, content: bytes
) -> None:
    assert put(connect(guarded.address, LOGIN), repository, content) == upload.SENT
    assert has(stored, repository, content)


def test_a_login_that_may_only_read_is_told_so(
    faulty: FaultyRegistry, connect: Connect, repository: str, content: bytes
) -> None:
    faulty.when(UPLOADS, faults.challenged('Basic realm="r"', []), times=1)
    faulty.when(UPLOADS, faults.status(403, word="DENIED", message="requested access to the resource is denied"))
    with pytest.raises(Denied, match=r"does not allow this login to push the blob .* ask its owner for access"):
        put(connect(faulty.address, LOGIN), repository, content)


@pytest.fixture
def tokens() -> Iterator[FaultyRegistry]:
    """Yield a token server that gives anybody a token."""
    with FaultyRegistry() as server:
        server.when("/token", faults.document({"token": "the-token", "expires_in": 300}))
        yield server


def test_the_token_is_for_pushing_and_for_the_lender(
    stored: Stored,
    faulty: FaultyRegistry,
    tokens: FaultyRegistry,
    connect: Connect,
    repository: str,
    content: bytes,
) -> None:
    challenge = f'Bearer realm="{tokens.url}/token",service="s"'
    faulty.when("/v2/", faults.challenged(challenge, ["Bearer the-token"]))
    put(connect(stored.address), f"{repository}/lender", content)
    assert put(connect(faulty.address, LOGIN), repository, content, f"{repository}/lender") == upload.MOUNTED
    scopes = [parse_qs(urlsplit(one.path).query)["scope"] for one in tokens.requests]
    own = f"repository:{repository}:pull,push"
    assert scopes == [[own], [own, f"repository:{repository}/lender:pull"]]


def test_a_token_that_ends_meanwhile_is_renewed(
    stored: Stored,
    faulty: FaultyRegistry,
    tokens: FaultyRegistry,
    connect: Connect,
    repository: str,
    content: bytes,
) -> None:
    challenge = f'Bearer realm="{tokens.url}/token",service="s"'
    faulty.when(UPLOADS, faults.challenged(challenge, []), "PATCH", times=1, after=1)
    faulty.when("/v2/", faults.challenged(challenge, ["Bearer the-token"]))
    assert put(connect(faulty.address, LOGIN), repository, content) == upload.SENT
    assert has(stored, repository, content)
    assert (len(tokens.requests), beginnings(faulty)) == (2, 1)


# Registries that refuse


def test_a_mirror_says_that_it_is_none_to_push_to(
    faulty: FaultyRegistry, connect: Connect, repository: str, content: bytes
) -> None:
    faulty.when(UPLOADS, faults.status(405, word="UNSUPPORTED", message="The operation is unsupported."), "POST")
    with pytest.raises(RegistryError, match=r"did not take the blob .*status 405.*; it may be a mirror"):
        put(connect(faulty.address), repository, content)


def test_a_registry_may_want_the_repository_made_first(
    faulty: FaultyRegistry, connect: Connect, repository: str, content: bytes
) -> None:
    faulty.when(UPLOADS, faults.status(404, word="NAME_UNKNOWN", message="project not found"), "POST")
    with pytest.raises(NotFound, match=r"has no place for the blob .*project not found.* made first"):
        put(connect(faulty.address), repository, content)


# Manifests


def test_a_file_gets_its_name_when_all_of_it_is_there(
    faulty: FaultyRegistry, connect: Connect, repository: str, content: bytes
) -> None:
    session, name = connect(faulty.address), Reference.parse(f"oras://{faulty.address}/{repository}:1")
    parcel = Parcel(descriptor(content), "app.sif", b'{"a":1}', {"z": "1", "b": "2"})
    assert artifact.push(session, name, parcel, io.BytesIO(content)) == upload.SENT
    assert [one.method for one in faulty.requests][-1] == "PUT"
    assert faulty.asked("/manifests/", "PUT")[0].path.endswith(f"/{repository}/manifests/1")
    found = artifact.resolve_artifact(session, name, Platform("linux", "amd64"))
    assert (found.digest, found.layer.digest, found.size) == (parcel.digest, descriptor(content).digest, len(content))
    assert found.annotations == {"b": "2", "z": "1"}
    with session.blob(repository, found.config.digest) as (_begin, chunks):
        assert json.loads(b"".join(chunks)) == {"a": 1}


def test_a_file_that_cannot_be_sent_leaves_the_name_as_it_was(
    faulty: FaultyRegistry, connect: Connect, repository: str, content: bytes
) -> None:
    name = Reference.parse(f"oras://{faulty.address}/{repository}:1")
    faulty.when(UPLOADS, faults.status(403), "POST")
    with pytest.raises(Denied):
        artifact.push(connect(faulty.address), name, Parcel(descriptor(content), "a.sif"), io.BytesIO(content))
    assert not faulty.asked("/manifests/", "PUT")


@pytest.mark.parametrize("told", ["", "stored", "sha256:0, sha256:0", '"sha256:0"'])
def test_what_a_registry_says_of_a_manifest_and_is_no_digest_is_not_believed(
    told: str, faulty: FaultyRegistry, connect: Connect, repository: str, content: bytes
) -> None:
    name = Reference.parse(f"oras://{faulty.address}/{repository}:1")
    faulty.when("/manifests/", faults.header("Docker-Content-Digest", told), "PUT")
    artifact.push(connect(faulty.address), name, Parcel(descriptor(content), "a.sif"), io.BytesIO(content))


def test_a_manifest_that_is_stored_otherwise_is_an_error(
    faulty: FaultyRegistry, connect: Connect, repository: str, content: bytes
) -> None:
    name = Reference.parse(f"oras://{faulty.address}/{repository}:1")
    zeros = "sha256:" + 64 * "0"
    faulty.when("/manifests/", faults.header("Docker-Content-Digest", zeros), "PUT")
    with pytest.raises(DigestMismatch, match=rf"stored the manifest of oras://.* as {zeros}"):
        artifact.push(connect(faulty.address), name, Parcel(descriptor(content), "a.sif"), io.BytesIO(content))


def test_the_same_parcel_has_the_same_manifest() -> None:
    one = Parcel(descriptor(b"1"), "a.sif", annotations={"a": "1", "b": "2"})
    other = Parcel(descriptor(b"1"), "a.sif", annotations={"b": "2", "a": "1"})
    assert one.manifest == other.manifest
    assert one.digest != Parcel(descriptor(b"1"), "a.sif", annotations={"a": "1"}).digest
    assert "annotations" not in json.loads(Parcel(descriptor(b"1"), "a.sif").manifest)
