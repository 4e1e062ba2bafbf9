# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The registry client against a real registry, and against one that misbehaves."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path

import pytest
import requests
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import (
    CertificateError,
    Denied,
    DigestMismatch,
    InvalidManifest,
    NotFound,
    RateLimited,
    RegistryError,
    Unauthorized,
    Unreachable,
)
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.module.base import failure
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.manifest import manifest_digest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.reference import Reference
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.registry.client import MAX_MANIFEST, Registry
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.registry.pool import Registries
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.transport import response
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.transport.keychain import Keychain
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.transport.options import Transport
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.transport.response import content_length
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.transport.token import lifetime
from ansible_collections.hpc.sregistry.tests.unit.plugins.module_utils.conftest import Connect, Stored

from tests.faults import Fault, FaultyRegistry, faults
from tests.lab import oci

LOGIN = ("alice", "correct horse")
BASIC = faults.basic(*LOGIN)
MANIFESTS = "/manifests/"
BLOBS = "/blobs/"
ZEROS = "sha256:" + 64 * "0"


def name(registry: FaultyRegistry, image: str = "team/tiny:1.0") -> Reference:
    """Return an image of a faulty registry."""
    return Reference.parse(f"{registry.address}/{image}")


def read(session: Registry, repository: str, digest: str, offset: int = 0) -> tuple[int, bytes]:
    """Return the offset of a blob's data, and all of it."""
    with session.blob(repository, digest, offset) as (begin, chunks):
        return begin, b"".join(chunks)


# Names and manifests


def test_find_needs_one_head(stored: Stored, faulty: FaultyRegistry, connect: Connect) -> None:
    found = connect(faulty.address).head(name(faulty))
    content = stored.tiny.manifest()
    assert (found.digest, found.size, found.media_type) == (oci.digest_of(content), len(content), oci.DOCKER_MANIFEST)
    assert [each.method for each in faulty.requests] == ["HEAD"]


@pytest.mark.parametrize("missing", ["Docker-Content-Digest", "Content-Length"])
def test_find_reads_the_manifest_where_a_head_does_not_tell(
    missing: str, stored: Stored, faulty: FaultyRegistry, connect: Connect
) -> None:
    faulty.when(MANIFESTS, faults.together(faults.header(missing, None)), method="HEAD")
    if missing == "Content-Length":
        faulty.calm()
        faulty.when(MANIFESTS, faults.status(200, {"Docker-Content-Digest": ZEROS}), method="HEAD")
    found = connect(faulty.address).head(name(faulty))
    assert (found.digest, found.size) == (oci.digest_of(stored.tiny.manifest()), len(stored.tiny.manifest()))
    assert [each.method for each in faulty.requests] == ["HEAD", "GET"]


@pytest.mark.parametrize("selector", [":1.0", ":latest", "@{digest}"])
def test_fetch_gives_the_manifest_as_it_was_pushed(selector: str, stored: Stored, connect: Connect) -> None:
    content = stored.tiny.manifest()
    image = f"{stored.address}/team/tiny{selector.format(digest=oci.digest_of(content))}"
    body = connect(stored.address).get(Reference.parse(image))
    assert (body.content, body.digest, body.media_type) == (content, oci.digest_of(content), oci.DOCKER_MANIFEST)


def test_fetch_gives_an_index_rather_than_one_of_its_images(stored: Stored, connect: Connect) -> None:
    body = connect(stored.address).get(Reference.parse(f"{stored.address}/team/multi:1"))
    assert (body.content, body.media_type) == (stored.multi.manifest(), oci.OCI_INDEX)


@pytest.mark.parametrize("by_digest", [False, True], ids=["tag", "digest"])
@pytest.mark.parametrize(
    "fault",
    [faults.corrupted(20), faults.padded(b"\n"), faults.body(b""), faults.body(b"{}")],
    ids=["corrupted", "padded", "empty", "another"],
)
def test_a_manifest_that_is_not_what_was_promised_is_refused(
    fault: Fault, by_digest: bool, stored: Stored, faulty: FaultyRegistry, connect: Connect
) -> None:
    digest = oci.digest_of(stored.tiny.manifest())
    if by_digest:  # then the name decides, not what the registry says
        fault = faults.together(faults.header("Docker-Content-Digest", None), fault)
    faulty.when(MANIFESTS, fault)
    reference = name(faulty, f"team/tiny@{digest}" if by_digest else "team/tiny:1.0")
    with pytest.raises(DigestMismatch) as caught:
        connect(faulty.address).get(reference)
    for part in ("digest mismatch", str(reference), faulty.address, digest):
        assert part in str(caught.value)


def test_a_wrong_digest_header_is_refused(faulty: FaultyRegistry, connect: Connect) -> None:
    faulty.when(MANIFESTS, faults.header("Docker-Content-Digest", ZEROS))
    with pytest.raises(DigestMismatch, match=f"promised {ZEROS}"):
        connect(faulty.address).get(name(faulty))


def test_a_digest_in_the_name_wins_over_the_header(stored: Stored, faulty: FaultyRegistry, connect: Connect) -> None:
    other = oci.digest_of(oci.Image((stored.tiny.layers[0],), stored.tiny.settings, docker=True).manifest())
    content = connect(stored.address).get(Reference.parse(f"{stored.address}/team/tiny@{other}")).content
    faulty.when(MANIFESTS, faults.body(content))
    faulty.when(MANIFESTS, faults.header("Docker-Content-Digest", other))
    with pytest.raises(DigestMismatch):
        connect(faulty.address).get(name(faulty, f"team/tiny@{oci.digest_of(stored.tiny.manifest())}"))


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_the_digest_is_of_the_algorithm_that_was_asked_for(algorithm: str) -> None:
    expected = f"{algorithm}:{hashlib.new(algorithm, b'{}').hexdigest()}"
    assert manifest_digest(b"{}", expected) == expected


def test_a_manifest_that_is_too_large_is_refused_before_all_of_it_is_read(
    faulty: FaultyRegistry, connect: Connect
) -> None:
    faulty.when(MANIFESTS, faults.body(b" " * (MAX_MANIFEST + 1)))
    with pytest.raises(InvalidManifest, match=f"more than {MAX_MANIFEST} bytes for {name(faulty)}"):
        connect(faulty.address).get(name(faulty))


def test_a_manifest_of_the_largest_size_is_read(faulty: FaultyRegistry, connect: Connect) -> None:
    content = b"{}".ljust(MAX_MANIFEST)
    faulty.when(MANIFESTS, faults.says(content, headers={"Content-Type": "application/json; charset=utf-8"}))
    body = connect(faulty.address).get(name(faulty))
    assert (body.content, body.media_type) == (content, "application/json")


def test_a_manifest_that_breaks_off_is_a_broken_connection(faulty: FaultyRegistry, connect: Connect) -> None:
    faulty.when(MANIFESTS, faults.truncated(10))
    with pytest.raises(Unreachable, match="broke while reading"):
        connect(faulty.address).get(name(faulty))


def test_a_signed_schema_1_manifest_has_the_digest_of_what_was_signed(faulty: FaultyRegistry, connect: Connect) -> None:
    faulty.when(MANIFESTS, faults.asks_for("Accept", oci.SCHEMA1))
    session = connect(faulty.address)
    body = session.get(name(faulty))  # the digest is the registry's own, which it converted and signed
    assert body.media_type == oci.SCHEMA1
    assert json.loads(body.content)["schemaVersion"] == 1
    assert body.digest == session.head(name(faulty)).digest
    assert hashlib.sha256(body.content).hexdigest() == body.digest.partition(":")[2]


def signed(payload: bytes, cut: int, around: bytes) -> bytes:
    """Return a document with a signature over ``payload``: its first bytes, other content, and a signature."""

    def encoded(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).decode().rstrip("=")

    header = {"formatLength": cut, "formatTail": encoded(payload[cut:])}
    signature = {"signatures": [{"protected": encoded(json.dumps(header).encode())}]}
    return payload[:cut] + around + b"," + json.dumps(signature).encode()[1:]


def test_what_stands_beside_the_signed_payload_is_never_used(faulty: FaultyRegistry, connect: Connect) -> None:
    payload = b'{"schemaVersion": 1, "fsLayers": []}'
    content = signed(payload, len(payload) - 1, b', "fsLayers": [{"blobSum": "of another one"}]')
    assert json.loads(content)["fsLayers"], "the smuggled key would win"
    faulty.when(MANIFESTS, faults.says(content))
    body = connect(faulty.address).get(name(faulty, f"team/tiny@{oci.digest_of(payload)}"))
    assert body.content == payload


def test_only_schema_1_is_signed(faulty: FaultyRegistry, connect: Connect) -> None:
    payload = b'{"schemaVersion": 2, "layers": []}'
    faulty.when(MANIFESTS, faults.says(signed(payload, len(payload) - 1, b', "layers": [1]')))
    with pytest.raises(DigestMismatch):
        connect(faulty.address).get(name(faulty, f"team/tiny@{oci.digest_of(payload)}"))


@pytest.mark.parametrize(
    "content",
    [
        b'{"schemaVersion": 1, "signatures": []}',
        b'{"schemaVersion": 1, "signatures": [{"protected": "%%%"}]}',
        b'{"schemaVersion": 1, "signatures": [{"protected": 7}]}',
        b'["signatures"]',
        b'"signatures"',
        b'{"signatures"' + b"[" * 100_000,
    ],
)
def test_a_malformed_signature_is_content_like_any_other(content: bytes) -> None:
    assert manifest_digest(content) == oci.digest_of(content)


# What is not there


@pytest.mark.parametrize("method", ["head", "get"])
def test_an_unknown_repository_is_told_from_an_unknown_tag(method: str, stored: Stored, connect: Connect) -> None:
    session = connect(stored.address)
    cases = {
        "team/absent:1.0": ("name unknown", "no repository 'team/absent'", "check the spelling"),
        "team/tiny:3.0": ("manifest unknown", "no tag '3.0'", "it has 1.0, 2.0, latest"),
        f"team/tiny@{ZEROS}": ("manifest unknown", f"no manifest {ZEROS}"),
    }
    for image, parts in cases.items():
        with pytest.raises(NotFound) as caught:
            getattr(session, method)(Reference.parse(f"{stored.address}/{image}"))
        for part in (*parts, stored.address, "404"):
            assert part in str(caught.value)


def test_the_tags_of_a_message_are_twenty_at_most(faulty: FaultyRegistry, connect: Connect) -> None:
    faulty.when("/tags/list", faults.document({"name": "team/tiny", "tags": [f"t{n:02}" for n in range(30)]}))
    with pytest.raises(NotFound, match=r"it has t00, .*t19, …$"):
        connect(faulty.address).head(name(faulty, "team/tiny:none"))


@pytest.mark.parametrize("content", [b"", b"no json", b"[]", b'{"tags": null}', b'{"tags": "x"}'])
def test_a_malformed_list_of_tags_is_no_tags(content: bytes, faulty: FaultyRegistry, connect: Connect) -> None:
    faulty.when("/tags/list", faults.says(content))
    with pytest.raises(NotFound, match="it has no tags"):
        connect(faulty.address).head(name(faulty, "team/tiny:none"))


def test_where_tags_may_not_be_listed_the_name_is_still_reported(faulty: FaultyRegistry, connect: Connect) -> None:
    faulty.when("/tags/list", faults.status(403))
    with pytest.raises(NotFound, match=f"{name(faulty, 'team/tiny:none')}.*404"):
        connect(faulty.address).head(name(faulty, "team/tiny:none"))


# Blobs


@pytest.mark.parametrize("offset", [0, 1, 1_000_000])
def test_a_blob_is_read_from_an_offset_on(offset: int, stored: Stored, connect: Connect) -> None:
    got = read(connect(stored.address), "team/big", stored.blob.digest, offset)
    assert got == (offset, stored.blob.blob[offset:])


def test_a_registry_without_range_sends_all_of_it(stored: Stored, faulty: FaultyRegistry, connect: Connect) -> None:
    faulty.when(BLOBS, faults.asks_for("Range", None))
    assert read(connect(faulty.address), "team/big", stored.blob.digest, 1000) == (0, stored.blob.blob)


def test_an_offset_that_the_registry_refuses_means_all_of_it(stored: Stored, connect: Connect) -> None:
    beyond = len(stored.blob.blob)
    assert read(connect(stored.address), "team/big", stored.blob.digest, beyond) == (0, stored.blob.blob)


@pytest.mark.parametrize("size", [0, 1000, 2_500_000])
def test_a_blob_that_breaks_off_gives_what_came_and_then_an_error(
    size: int, stored: Stored, faulty: FaultyRegistry, connect: Connect
) -> None:
    faulty.when(BLOBS, faults.truncated(size))
    came: list[bytes] = []
    with (
        connect(faulty.address).blob("team/big", stored.blob.digest) as (_begin, chunks),
        pytest.raises(Unreachable, match=f"broke while reading the blob {stored.blob.digest}"),
    ):
        came.extend(chunks)
    assert size - 300_000 <= sum(map(len, came)) <= size, "what has arrived is not thrown away"


def test_a_blob_is_read_as_it_is_stored_whatever_its_content_encoding(
    stored: Stored, faulty: FaultyRegistry, connect: Connect
) -> None:
    faulty.when(BLOBS, faults.header("Content-Encoding", "gzip"))
    layer = stored.tiny.layers[0]
    assert read(connect(faulty.address), "team/tiny", layer.digest) == (0, layer.blob)


def test_connections_are_kept_alive(stored: Stored, faulty: FaultyRegistry, connect: Connect) -> None:
    session = connect(faulty.address)
    for _time in range(3):
        session.head(name(faulty))
        session.get(name(faulty))
        read(session, "team/big", stored.blob.digest)
    assert len(faulty.requests) == 9
    assert faulty.connections == 1


def test_threads_share_a_pool_of_connections(faulty: FaultyRegistry, connect: Connect) -> None:
    session = connect(faulty.address, connections=4)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _n: session.head(name(faulty)), range(40)))
    assert len(faulty.requests) == 40
    assert faulty.connections <= 4


# Logins


def test_nothing_is_sent_before_a_registry_asks(faulty: FaultyRegistry, connect: Connect) -> None:
    connect(faulty.address, LOGIN).get(name(faulty))
    assert "authorization" not in faulty.requests[0].headers


@pytest.mark.parametrize(
    "challenge",
    ['Basic realm="a, b"', "basic realm=x", 'Basic charset="UTF-8", realm="x"', 'Negotiate, Basic realm="x"', "Basic"],
)
def test_a_basic_challenge_is_answered_and_remembered(
    challenge: str, stored: Stored, faulty: FaultyRegistry, connect: Connect
) -> None:
    faulty.when("", faults.challenged(challenge, {BASIC}))
    session = connect(faulty.address, LOGIN)
    session.head(name(faulty))
    session.get(name(faulty))
    read(session, "team/big", stored.blob.digest)
    assert [each.status for each in faulty.requests] == [401, 200, 200, 200]


def test_a_password_in_any_script_is_sent_as_utf_8(faulty: FaultyRegistry, connect: Connect) -> None:
    faulty.when("", faults.challenged("Basic realm=x", {"Basic Z3LDvG46cMOkw586d29ydA=="}))
    connect(faulty.address, ("grün", "päß:wort")).head(name(faulty))


BEARER = {
    "usual": 'Bearer realm="{url}/token",service="the, service",scope="repository:team/tiny:pull"',
    "any order": 'Bearer scope="repository:team/tiny:pull", service="the, service" , realm="{url}/token"',
    "other case": 'bearer Realm="{url}/token",SERVICE="the, service"',
    "after basic": 'Basic realm="x", Bearer realm="{url}/token",service="the, service"',
    "before basic": 'Bearer realm="{url}/token",service="the, service", Basic realm="x"',
    "error first": 'Bearer error="invalid_token",realm="{url}/token",service="the, service"',
    "escapes": 'Bearer realm="{url}\\/token",service="the, ser\\vice"',
}


@pytest.mark.parametrize("key", ["token", "access_token"])
@pytest.mark.parametrize("challenge", BEARER.values(), ids=BEARER.keys())
def test_a_token_is_got_and_kept_for_all_that_follows(
    challenge: str, key: str, stored: Stored, faulty: FaultyRegistry, connect: Connect
) -> None:
    faulty.when("/v2/", faults.challenged(challenge.format(url=faulty.url), {"Bearer abc"}))
    faulty.when("/token", faults.document({key: "abc", "expires_in": 300}))
    session = connect(faulty.address)
    session.head(name(faulty))
    session.get(name(faulty))
    read(session, "team/tiny", stored.tiny.layers[0].digest)
    assert [each.status for each in faulty.requests] == [401, 200, 200, 200, 200]
    (token,) = faulty.asked("^/token")
    assert token.path == "/token?scope=repository%3Ateam%2Ftiny%3Apull&service=the%2C+service"
    assert "authorization" not in token.headers


@pytest.mark.parametrize("empty", [None, ""])
def test_an_empty_token_gives_way_to_the_other(empty: str | None, faulty: FaultyRegistry, connect: Connect) -> None:
    faulty.when("/v2/", faults.challenged(f'Bearer realm="{faulty.url}/token"', {"Bearer abc"}))
    faulty.when("/token", faults.document({"token": empty, "access_token": "abc", "expires_in": None}))
    connect(faulty.address).head(name(faulty))


def test_the_login_gets_the_token_and_only_the_token_goes_to_the_registry(
    faulty: FaultyRegistry, connect: Connect
) -> None:
    with FaultyRegistry() as server:
        server.when("/token", faults.document({"token": "abc"}))
        faulty.when("", faults.challenged(f'Bearer realm="{server.url}/token?x=y"', {"Bearer abc"}))
        connect(faulty.address, LOGIN).get(name(faulty))
        assert [each.headers["authorization"] for each in server.requests] == [BASIC]
        assert server.requests[0].path.startswith("/token?x=y&scope=")
        assert [each.headers.get("authorization") for each in faulty.requests] == [None, "Bearer abc"]


def test_each_repository_has_its_own_token(faulty: FaultyRegistry, connect: Connect) -> None:
    faulty.when("/v2/", faults.challenged(f'Bearer realm="{faulty.url}/token"', {"Bearer abc"}))
    faulty.when("/token", faults.document({"token": "abc", "expires_in": 300}))
    session = connect(faulty.address)
    for image in ("team/tiny:1.0", "team/big:1", "team/tiny:2.0"):
        session.head(name(faulty, image))
    assert [each.path.partition("scope=")[2] for each in faulty.asked("^/token")] == [
        "repository%3Ateam%2Ftiny%3Apull",
        "repository%3Ateam%2Fbig%3Apull",
    ]


def with_a_token_that_ended(faulty: FaultyRegistry, connect: Connect) -> tuple[Registry, set[str]]:
    """Return a session whose token is not accepted any more since its first request, and what the registry accepts."""
    accepted = {"Bearer old"}
    faulty.when("/v2/", faults.challenged(f'Bearer realm="{faulty.url}/token"', accepted))
    faulty.when("/token", faults.document({"token": "old", "expires_in": 300}), times=1)
    faulty.when("/token", faults.document({"token": "new", "expires_in": 300}))
    session = connect(faulty.address)
    session.head(name(faulty))
    accepted.clear()
    accepted.add("Bearer new")
    return session, accepted


def test_a_token_that_is_not_accepted_any_more_is_renewed_once(faulty: FaultyRegistry, connect: Connect) -> None:
    session, accepted = with_a_token_that_ended(faulty, connect)
    session.head(name(faulty))
    session.head(name(faulty))
    assert [each.status for each in faulty.asked(MANIFESTS)] == [401, 200, 401, 200, 200]
    accepted.clear()
    with pytest.raises(Unauthorized):
        session.head(name(faulty))
    asked = faulty.asked(MANIFESTS)[5:]
    assert [(each.method, each.status) for each in asked] == [(how, 401) for how in ("HEAD", "HEAD", "GET", "GET")]
    assert len(faulty.asked("^/token")) == 5


def test_a_token_whose_time_has_come_is_renewed_before_it_is_refused(
    faulty: FaultyRegistry, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    faulty.when("/v2/", faults.challenged(f'Bearer realm="{faulty.url}/token"', {"Bearer abc"}))
    faulty.when("/token", faults.document({"token": "abc", "expires_in": 100}))
    session = connect(faulty.address)
    session.head(name(faulty))
    later = time.monotonic() + 100
    monkeypatch.setattr(time, "monotonic", lambda: later)
    session.head(name(faulty))
    assert [each.status for each in faulty.asked(MANIFESTS)] == [401, 200, 200]
    assert len(faulty.asked("^/token")) == 2


def test_threads_that_lose_a_token_at_once_all_go_on(faulty: FaultyRegistry, connect: Connect) -> None:
    session, _accepted = with_a_token_that_ended(faulty, connect)
    with ThreadPoolExecutor(9) as pool:
        digests = {found.digest for found in pool.map(lambda _n: session.head(name(faulty)), range(30))}
    assert len(digests) == 1
    assert len(faulty.asked("^/token")) <= 1 + 9


@pytest.mark.parametrize("login", [None, LOGIN], ids=["anonymous", "wrong login"])
@pytest.mark.parametrize("challenge", ['Basic realm="x"', 'Bearer realm="{url}/token"'], ids=["basic", "bearer"])
def test_a_login_that_is_missing_or_wrong_is_said_so(
    challenge: str, login: tuple[str, str] | None, faulty: FaultyRegistry, connect: Connect
) -> None:
    faulty.when("/v2/", faults.challenged(challenge.format(url=faulty.url), set()))
    faulty.when("/token", faults.status(401))
    with pytest.raises(Unauthorized) as caught:
        connect(faulty.address, login).get(name(faulty))
    expected = ["unauthorized", str(name(faulty)), faulty.address, "status 401"]
    expected += (
        ["the user name and password of the task", "check user name"]
        if login
        else ["no login", "give username and password"]
    )
    for part in expected:
        assert part in str(caught.value)
    assert "correct horse" not in str(caught.value)
    assert len(faulty.requests) <= 3


def test_a_challenge_that_nobody_understands_is_a_refusal(faulty: FaultyRegistry, connect: Connect) -> None:
    faulty.when("", faults.challenged("Negotiate", set()))
    with pytest.raises(Unauthorized):
        connect(faulty.address, LOGIN).head(name(faulty))
    manifest = "/v2/team/tiny/manifests/1.0"
    assert [each.path for each in faulty.requests] == [manifest, "/v2/", manifest]
    assert not any("authorization" in each.headers for each in faulty.requests)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (faults.says(b"no json"), "sent no token"),
        (faults.says(b"[]"), "sent no token"),
        (faults.document({}), "sent no token"),
        (faults.document({"token": None, "access_token": None}), "sent no token"),
        (faults.document({"token": {"a": 1}}), "sent no token"),
        (faults.document({"token": "a", "expires_in": "soon"}), "sent no token"),
        (faults.status(403), "denied"),
        (faults.status(500), "status 500.*tried 4 times"),
        (faults.dropped(), "no answer"),
        (faults.status(429, {"Retry-After": "3600"}), "too many requests"),
    ],
    ids=["no JSON", "a list", "nothing", "null", "an object", "lifetime", "403", "500", "dropped", "429"],
)
def test_a_token_server_that_gives_none_is_an_error_and_not_a_loop(
    answer: Fault, said: str, faulty: FaultyRegistry, connect: Connect, pauses: list[float]
) -> None:
    faulty.when("/v2/", faults.challenged(f'Bearer realm="{faulty.url}/token"', {"Bearer abc"}))
    faulty.when("/token", answer)
    with pytest.raises(RegistryError, match=said) as caught:
        connect(faulty.address).head(name(faulty))
    assert faulty.address in str(caught.value)
    assert len(faulty.requests) <= 5
    assert sum(pauses) < 60


def test_a_token_server_may_fail_for_a_moment(faulty: FaultyRegistry, connect: Connect, pauses: list[float]) -> None:
    faulty.when("/v2/", faults.challenged(f'Bearer realm="{faulty.url}/token"', {"Bearer abc"}))
    faulty.when("/token", faults.status(503, {"Retry-After": "2"}), times=1)
    faulty.when("/token", faults.dropped(), times=1)
    faulty.when("/token", faults.document({"token": "abc"}))
    connect(faulty.address).head(name(faulty))
    assert pauses[0] == 2
    assert len(pauses) == 2


@pytest.mark.parametrize("realm", ["", "ftp://127.0.0.1/token", "/token", "http://[::1/token"])
def test_a_realm_that_is_no_web_address_is_reported(realm: str, faulty: FaultyRegistry, connect: Connect) -> None:
    faulty.when("", faults.challenged(f'Bearer realm="{realm}"', set()))
    with pytest.raises(RegistryError, match="names no server to get it from"):
        connect(faulty.address).head(name(faulty))


def test_a_netrc_is_not_used(
    faulty: FaultyRegistry, connect: Connect, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login alice password secret\n", encoding="utf-8")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    requests.get(f"{faulty.url}/v2/", timeout=20)
    assert "authorization" in faulty.requests[0].headers, "requests alone does use it"
    faulty.when("", faults.challenged("Basic realm=x", set()))
    with pytest.raises(Unauthorized):
        connect(faulty.address).head(name(faulty))
    assert all("authorization" not in each.headers for each in faulty.requests[1:])


def test_an_authfile_is_asked_for_the_registry_and_for_no_other(
    faulty: FaultyRegistry, connect: Connect, tmp_path: Path
) -> None:
    encoded = BASIC.partition(" ")[2]
    authfile = tmp_path / "config.json"
    authfile.write_text(json.dumps({"auths": {faulty.address: {"auth": encoded}}}), encoding="utf-8")
    keychain = Keychain(authfile=str(authfile))
    with FaultyRegistry() as other:
        for registry in (faulty, other):
            registry.when("", faults.challenged("Basic realm=x", {BASIC}))
        connect(faulty.address, keychain=keychain).head(name(faulty))
        with pytest.raises(Unauthorized, match=f"authfile {authfile}"):
            connect(other.address, keychain=keychain).head(name(other))
        assert all("authorization" not in each.headers for each in other.requests)


# Redirects


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_blob_may_be_elsewhere_and_the_login_stays_at_home(
    code: int, stored: Stored, faulty: FaultyRegistry, connect: Connect
) -> None:
    with FaultyRegistry(stored.url) as elsewhere:
        faulty.when(
            BLOBS, faults.together(faults.challenged("Basic realm=x", {BASIC}), faults.redirected(elsewhere.url, code))
        )
        session = connect(faulty.address, LOGIN)
        assert read(session, "team/big", stored.blob.digest, 5) == (5, stored.blob.blob[5:])
        assert [each.status for each in faulty.requests] == [401, code]
        assert faulty.requests[1].headers["authorization"] == BASIC
        assert [each.headers["range"] for each in elsewhere.requests] == ["bytes=5-"]
        assert "authorization" not in elsewhere.requests[0].headers


@pytest.mark.parametrize("prefix", ["", "{url}"], ids=["relative", "absolute"])
def test_within_the_registry_the_login_follows_a_redirect(
    prefix: str, stored: Stored, faulty: FaultyRegistry, connect: Connect
) -> None:
    target = prefix.format(url=faulty.url) + f"/v2/team/big/blobs/{stored.blob.digest}"
    faulty.when("other", faults.together(faults.challenged("Basic realm=x", {BASIC}), faults.redirected("")), times=1)
    faulty.when("other", faults.status(307, {"Location": target}))
    faulty.when(BLOBS, faults.challenged("Basic realm=x", {BASIC}))
    session = connect(faulty.address, LOGIN)
    assert read(session, "team/other", stored.blob.digest)[1] == stored.blob.blob
    assert faulty.requests[-1].headers["authorization"] == BASIC


def test_a_host_that_two_libraries_read_differently_gets_no_login(
    stored: Stored, faulty: FaultyRegistry, connect: Connect
) -> None:
    with FaultyRegistry(stored.url) as elsewhere, FaultyRegistry() as thief:
        away = faults.redirected(elsewhere.url)
        faulty.when(BLOBS, faults.together(faults.challenged("Basic realm=x", {BASIC}), away))
        elsewhere.when(BLOBS, faults.redirected(f"{thief.url}\\@{faulty.address}"))
        with pytest.raises(RegistryError, match="which is not a web address"):
            read(connect(faulty.address, LOGIN), "team/big", stored.blob.digest)
        assert not thief.requests


def test_a_cookie_that_stands_for_a_login_goes_nowhere(
    stored: Stored, faulty: FaultyRegistry, connect: Connect
) -> None:
    with FaultyRegistry(stored.url) as elsewhere:  # the same host for a cookie, which knows no ports
        away = faults.status(307, {"Location": f"{elsewhere.url}/v2/team/tiny/manifests/1.0", "Set-Cookie": "sid=1"})
        faulty.when(MANIFESTS, away)
        connect(faulty.address).get(name(faulty))
        assert ["cookie" in each.headers for each in elsewhere.requests] == [False]


def test_a_login_is_not_sent_in_clear_when_a_registry_with_tls_redirects(
    tls: Path, stored: Stored, faulty: FaultyRegistry, connect: Connect
) -> None:
    with FaultyRegistry(stored.url, (tls / "server.pem", tls / "server.key")) as secure:
        secure.when(
            MANIFESTS,
            faults.together(
                faults.challenged(f'Bearer realm="{secure.url}/token"', {"Bearer abc"}), faults.redirected(faulty.url)
            ),
        )
        secure.when("/token", faults.document({"token": "abc"}))
        session = connect(secure.address, LOGIN, http=False, verify=str(tls / "ca.pem"))
        digest = oci.digest_of(stored.tiny.manifest())
        assert session.get(name(secure).at(digest)).digest == digest
        assert len(faulty.requests) == 1
        assert "authorization" not in faulty.requests[0].headers


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_what_a_tag_points_at_is_not_told_without_tls(
    method: str, tls: Path, stored: Stored, faulty: FaultyRegistry, connect: Connect
) -> None:
    with FaultyRegistry(stored.url, (tls / "server.pem", tls / "server.key")) as secure:
        secure.when(MANIFESTS, faults.redirected(faulty.url))
        session = connect(secure.address, http=False, verify=str(tls / "ca.pem"))
        ask = session.head if method == "HEAD" else session.get
        with pytest.raises(RegistryError, match=f"redirects {name(secure)} to {faulty.address} without TLS.*digest"):
            ask(name(secure))
        digest = oci.digest_of(stored.tiny.manifest())
        assert ask(name(secure).at(digest)).digest == digest


def test_a_login_is_not_sent_to_a_token_server_without_tls(tls: Path, connect: Connect) -> None:
    with FaultyRegistry() as clear, FaultyRegistry(None, (tls / "server.pem", tls / "server.key")) as secure:
        secure.when("", faults.challenged(f'Bearer realm="{clear.url}/token"', set()))
        session = connect(secure.address, LOGIN, http=False, verify=str(tls / "ca.pem"))
        with pytest.raises(
            RegistryError, match=f"wants the login sent to {clear.url}/token without TLS; it was not sent"
        ):
            session.head(name(secure))
        assert clear.requests == []


def test_a_redirect_loop_ends(faulty: FaultyRegistry, connect: Connect) -> None:
    faulty.when(MANIFESTS, faults.redirected(faulty.url))
    with pytest.raises(RegistryError, match=f"{faulty.address} redirects {name(faulty)} more than 10 times"):
        connect(faulty.address).head(name(faulty))
    assert len(faulty.requests) == 11


@pytest.mark.parametrize(
    "target", ["ftp://127.0.0.1/x", "file:///etc/passwd", "http://[::1", "http://127.0.0.1:99999/"]
)
def test_a_redirect_to_what_is_no_web_address_is_reported(
    target: str, faulty: FaultyRegistry, connect: Connect
) -> None:
    faulty.when(MANIFESTS, faults.status(302, {"Location": target}))
    with pytest.raises(RegistryError, match=f"{faulty.address} redirects {name(faulty)} to .*not a web address"):
        connect(faulty.address, retries=0).head(name(faulty))


# Failures


@pytest.mark.parametrize(
    ("fault", "kind", "parts"),
    [
        (
            faults.status(403, word="DENIED", message="not yours"),
            Denied,
            ("denied", "status 403", "DENIED not yours", "anonymous"),
        ),
        (
            faults.status(429, {"ratelimit-limit": "100;w=21600", "Retry-After": "3600"}, "TOOMANYREQUESTS"),
            RateLimited,
            ("too many requests", "status 429", "100 pulls", "after 3600 s", "log in", "TOOMANYREQUESTS"),
        ),
        (faults.status(500), RegistryError, ("status 500", "tried 4 times")),
        (faults.status(503), RegistryError, ("status 503", "tried 4 times")),
        (faults.status(418, word="TEAPOT"), RegistryError, ("status 418", "TEAPOT")),
        (faults.dropped(), Unreachable, ("no answer", "tried 4 times", "network")),
        (faults.says(b"<html>" * 10, 502), RegistryError, ("status 502",)),
    ],
    ids=["403", "429", "500", "503", "418", "dropped", "HTML"],
)
def test_a_failure_names_image_registry_and_status(
    fault: Fault,
    kind: type[RegistryError],
    parts: tuple[str, ...],
    faulty: FaultyRegistry,
    connect: Connect,
    pauses: list[float],
) -> None:
    faulty.when(MANIFESTS, fault)
    with pytest.raises(kind) as caught:
        connect(faulty.address).get(name(faulty))
    for part in (*parts, str(name(faulty)), faulty.address):
        assert part in str(caught.value)
    assert len(faulty.requests) <= 4
    assert sum(pauses) < 60


def test_an_anonymous_token_is_not_called_a_login(faulty: FaultyRegistry, connect: Connect) -> None:
    faulty.when("/token", faults.document({"token": "abc"}))
    faulty.when(
        "/v2/",
        faults.together(faults.challenged(f'Bearer realm="{faulty.url}/token"', {"Bearer abc"}), faults.status(403)),
    )
    with pytest.raises(Denied, match="does not allow anonymous users"):
        connect(faulty.address).get(name(faulty))
    with pytest.raises(Denied, match="does not allow this login"):
        connect(faulty.address, LOGIN).get(name(faulty))


@pytest.mark.parametrize("fault", [faults.status(503), faults.status(500), faults.status(429), faults.dropped()])
def test_a_moment_of_trouble_is_waited_out(
    fault: Fault, faulty: FaultyRegistry, connect: Connect, pauses: list[float]
) -> None:
    faulty.when(MANIFESTS, fault, times=3)
    connect(faulty.address).get(name(faulty))
    assert len(faulty.requests) == 4
    assert len(pauses) == 3


@pytest.mark.parametrize("retries", [0, 1, 8])
def test_tries_and_pauses_are_bounded(
    retries: int, faulty: FaultyRegistry, connect: Connect, pauses: list[float]
) -> None:
    faulty.when(MANIFESTS, faults.status(503))
    with pytest.raises(RegistryError, match=f"tried {retries + 1} times" if retries else "status 503"):
        connect(faulty.address, retries=retries).get(name(faulty))
    assert len(faulty.requests) == retries + 1
    assert len(pauses) == retries
    assert all(0 < pause <= 12.5 for pause in pauses)
    assert all(pauses[n + 1] > pauses[n] for n in range(min(len(pauses), 5) - 1)), "each longer than the one before"


@pytest.mark.parametrize(
    ("asked", "low", "high"),
    [
        ("0", 0, 0),
        ("7", 7, 7),
        ("60", 60, 60),
        ("date", 1, 20),
        ("long ago", 0, 0),
        ("nonsense", 0.1, 1),
        ("nan", 0, 0),
    ],
)
def test_retry_after_is_honoured(
    asked: str, low: float, high: float, faulty: FaultyRegistry, connect: Connect, pauses: list[float]
) -> None:
    dates = {"date": formatdate(time.time() + 20, usegmt=True), "long ago": formatdate(0, usegmt=True)}
    faulty.when(MANIFESTS, faults.status(429, {"Retry-After": dates.get(asked, asked)}), times=1)
    connect(faulty.address).get(name(faulty))
    assert len(pauses) == 1
    assert low <= pauses[0] <= high


@pytest.mark.parametrize("asked", ["61", "86400", "inf", "Fri, 31 Dec 2199 23:59:59 GMT"])
@pytest.mark.parametrize("status", [429, 503])
def test_a_registry_that_wants_a_long_wait_is_reported_at_once(
    status: int, asked: str, faulty: FaultyRegistry, connect: Connect, pauses: list[float]
) -> None:
    faulty.when(MANIFESTS, faults.status(status, {"Retry-After": asked}))
    with pytest.raises(RegistryError, match=f"status {status}.*try again after {asked}") as caught:
        connect(faulty.address).get(name(faulty))
    assert "tried 4 times" not in str(caught.value)
    assert pauses == []
    assert len(faulty.requests) == 1


def test_a_registry_that_does_not_listen_is_reported(connect: Connect, pauses: list[float]) -> None:
    with FaultyRegistry() as gone:
        reference = name(gone)
    with pytest.raises(Unreachable) as caught:
        connect(reference.registry).head(reference)
    for part in (str(reference), reference.registry, "refused", "tried 4 times", "check the registry's name"):
        assert part in str(caught.value)
    assert len(pauses) == 3


def test_a_host_that_does_not_exist_is_reported(connect: Connect, pauses: list[float]) -> None:
    with pytest.raises(Unreachable, match=r"no answer from registry\.invalid"):
        connect("registry.invalid", retries=1).head(Reference.parse("registry.invalid/team/tiny"))
    assert pauses == [], "another try would not help"


def test_who_meant_no_registry_is_told_that_docker_hub_was_asked(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    session = connect("docker.io", retries=0)
    with pytest.raises(Unreachable, match=r"the proxy 127.* to registry-1\.docker\.io.*write REGISTRY/NAME"):
        session.head(Reference.parse("team/tiny"))


@pytest.mark.parametrize("fault", [faults.delayed(300), faults.truncated(10, stall=300)], ids=["silent", "stalling"])
def test_a_registry_that_hangs_is_given_up(fault: Fault, faulty: FaultyRegistry, connect: Connect) -> None:
    faulty.when(MANIFESTS, fault)
    begin = time.monotonic()
    with pytest.raises(Unreachable, match="timed out"):
        connect(faulty.address, timeout=0.3, retries=0).get(name(faulty))
    assert time.monotonic() - begin < 60


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
def test_a_document_that_comes_a_byte_at_a_time_is_given_up(
    secure: bool, tls: Path, stored: Stored, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(response, "_PATIENCE", 0.5)
    certificate = (tls / "server.pem", tls / "server.key") if secure else None
    with FaultyRegistry(stored.url, certificate) as faulty:
        faulty.when(MANIFESTS, faults.slowed(10))
        session = connect(faulty.address, http=not secure, verify=str(tls / "ca.pem"), timeout=5.0, retries=0)
        begin = time.monotonic()
        with pytest.raises(Unreachable, match="so slowly that it was not there after"):
            session.get(name(faulty))
        assert time.monotonic() - begin < 20, "all of it would take longer"
        faulty.calm()
        monkeypatch.setattr(response, "_PATIENCE", 60.0)
        assert session.get(name(faulty)).content == stored.tiny.manifest()


@pytest.mark.parametrize(
    ("fault", "hint"),
    [
        (faults.says(b"Client sent an HTTP request to an HTTPS server.", 400), True),
        (faults.status(400, word="NAME_INVALID", message="invalid repository name"), False),
    ],
    ids=["a server with TLS", "a registry"],
)
def test_who_answers_plain_http_with_400_may_want_tls(
    fault: Fault, hint: bool, faulty: FaultyRegistry, connect: Connect
) -> None:
    faulty.when(MANIFESTS, fault)
    with pytest.raises(RegistryError) as error:
        connect(faulty.address, retries=0).get(name(faulty))
    assert ("may want TLS" in str(error.value)) == hint


def test_a_refusal_that_comes_a_byte_at_a_time_is_still_one(
    faulty: FaultyRegistry, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(response, "_SHORT_PATIENCE", 0.3)
    words = faults.status(404, word="MANIFEST_UNKNOWN", message="x" * 1000)
    faulty.when(MANIFESTS, lambda request, upstream: replace(words(request, upstream), rate=10))
    begin = time.monotonic()
    with pytest.raises(NotFound):
        connect(faulty.address, timeout=5.0, retries=0).head(name(faulty))
    with pytest.raises(NotFound):
        connect(faulty.address, timeout=5.0, retries=0).get(name(faulty))
    assert time.monotonic() - begin < 60, "all of both would take longer"


@pytest.mark.parametrize(
    ("fault", "login"),
    [
        (faults.dropped(), None),
        (faults.status(503), None),
        (faults.status(429, {"Retry-After": "9999"}), None),
        (faults.challenged("Basic", set()), ("ann", "wrong")),
        (faults.challenged("Basic", set()), None),
        (faults.status(403), None),
    ],
    ids=["dead", "503", "429", "wrong login", "no login", "403"],
)
def test_what_is_wrong_with_a_registry_is_told_once_for_all_its_images(
    fault: Fault, login: tuple[str, str] | None, faulty: FaultyRegistry, connect: Connect, pauses: list[float]
) -> None:
    faulty.when("/v2/", fault)
    session, failed = connect(faulty.address, login, retries=1), []
    for wanted in (name(faulty), name(faulty, "team/big:1")):
        with pytest.raises(RegistryError) as caught:
            session.get(wanted)
        assert str(wanted) in str(caught.value)
        failed.append((wanted, caught.value))
    message = failure(failed, 2, check=False)
    begin, end = message.split("; this concerns ")
    assert end == f"{name(faulty)}, {name(faulty, 'team/big:1')}"
    assert "team/" not in begin


# TLS


def test_a_certificate_of_the_given_authority_is_accepted(tls: Path, stored: Stored, connect: Connect) -> None:
    with FaultyRegistry(stored.url, (tls / "server.pem", tls / "server.key")) as secure:
        session = connect(secure.address, http=False, verify=str(tls / "ca.pem"))
        assert session.head(name(secure)).digest == oci.digest_of(stored.tiny.manifest())


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
@pytest.mark.parametrize("verify", [True, False])
def test_a_certificate_of_an_unknown_authority_is_refused_unless_told_otherwise(
    verify: bool, tls: Path, stored: Stored, connect: Connect, pauses: list[float]
) -> None:
    with FaultyRegistry(stored.url, (tls / "server.pem", tls / "server.key")) as secure:
        session = connect(secure.address, http=False, verify=verify)
        if not verify:
            assert session.head(name(secure)).digest == oci.digest_of(stored.tiny.manifest())
            return
        with pytest.raises(CertificateError) as caught:
            session.head(name(secure))
        for part in ("TLS failure", secure.address, str(name(secure)), "ca_path"):
            assert part in str(caught.value)
        assert secure.requests == []
        assert pauses == [], "another try would not help"


def test_a_registry_that_speaks_plain_http_is_told_from_a_bad_certificate(
    faulty: FaultyRegistry, connect: Connect, pauses: list[float]
) -> None:
    with pytest.raises(CertificateError, match="insecure_registries as http://"):
        connect(faulty.address, http=False).head(name(faulty))
    assert pauses == []


# Sessions


def test_each_host_has_one_session() -> None:
    registries = Registries(Keychain(), Transport())
    first, second, other = (
        registries.of(Reference.parse(text)) for text in ("quay.io/a/b", "quay.io/c/d:1", "localhost:5000/a")
    )
    registries.close()
    assert first is second
    assert first is not other


def test_docker_hub_is_asked_at_its_own_endpoint(monkeypatch: pytest.MonkeyPatch, pauses: list[float]) -> None:
    asked: list[str] = []

    def request(_session: object, _method: str, url: str, **_how: object) -> None:
        asked.append(url)
        raise requests.exceptions.ConnectionError("no network in this test")

    monkeypatch.setattr(requests.Session, "request", request)
    with pytest.raises(Unreachable, match=r"registry-1\.docker\.io"):
        Registry("docker.io", Keychain(), Transport(retries=0)).head(Reference.parse("ubuntu:22.04"))
    assert asked == ["https://registry-1.docker.io/v2/library/ubuntu/manifests/22.04"]
    assert pauses == []


# A hostile registry

CHALLENGE = 'Bearer realm="{url}/token"'


@pytest.mark.parametrize("challenge", [CHALLENGE, "Basic realm=x"], ids=["bearer", "basic"])
def test_a_challenge_of_another_host_is_not_answered(challenge: str, faulty: FaultyRegistry, connect: Connect) -> None:
    with FaultyRegistry() as thief:
        thief.when("", faults.challenged(challenge.format(url=thief.url), set()))
        faulty.when(MANIFESTS, faults.redirected(thief.url), times=1)
        session = connect(faulty.address, LOGIN)
        with pytest.raises(RegistryError, match=f"redirects .* to {thief.address}, which refuses it") as caught:
            session.get(name(faulty))
        assert not isinstance(caught.value, Unauthorized)
        session.get(name(faulty))  # nor is it remembered
        assert len(thief.requests) == 1
        assert all("authorization" not in each.headers for each in (*thief.requests, *faulty.requests))


def test_a_challenge_after_a_redirect_does_not_cost_the_token(
    stored: Stored, faulty: FaultyRegistry, connect: Connect
) -> None:
    with FaultyRegistry() as thief:
        thief.when("", faults.challenged(CHALLENGE.format(url=thief.url), set()))
        away = faults.redirected(thief.url)
        faulty.when(BLOBS, faults.together(faults.challenged(CHALLENGE.format(url=faulty.url), {"Bearer abc"}), away))
        faulty.when("/v2/", faults.challenged(CHALLENGE.format(url=faulty.url), {"Bearer abc"}))
        faulty.when("/token", faults.document({"token": "abc", "expires_in": 300}))
        session = connect(faulty.address, LOGIN)
        for _time in range(2):
            with pytest.raises(RegistryError, match="which refuses it"):
                read(session, "team/big", stored.blob.digest)
        session.get(name(faulty, "team/big:1"))
        assert len(faulty.asked("^/token")) == 1
        assert all("authorization" not in each.headers for each in thief.requests)


@pytest.mark.parametrize(
    "challenge",
    ["a" * 65_000, "Basic " * 10_000, 'a="' * 20_000, 'Bearer a="' + "\\a" * 30_000, "a " * 30_000, "a" + " " * 60_000],
)
def test_a_long_challenge_costs_no_time(challenge: str, faulty: FaultyRegistry, connect: Connect) -> None:
    faulty.when("", faults.status(401, {"WWW-Authenticate": challenge}))
    begin = time.thread_time()
    with pytest.raises(RegistryError):
        connect(faulty.address, retries=0).head(name(faulty))
    assert time.thread_time() - begin < 3


@pytest.mark.parametrize("length", [3000, 4096])
def test_a_challenge_of_the_largest_length_costs_no_time(length: int, faulty: FaultyRegistry, connect: Connect) -> None:
    for piece in ("a", 'a="', "a ", "a_", " ", 'a=\\"'):
        faulty.calm()
        challenge = ('Bearer realm="' + piece * length)[:length]
        faulty.when("", faults.status(401, {"WWW-Authenticate": challenge}))
        begin = time.thread_time()
        with pytest.raises(RegistryError):
            connect(faulty.address, retries=0).head(name(faulty))
        assert time.thread_time() - begin < 3


def bomb(size: int, layers: int = 2) -> bytes:
    """Return zeros, compressed more than once."""
    content = bytes(size)
    for _layer in range(layers):
        content = gzip.compress(content)
    return content


@pytest.mark.parametrize("pattern", [MANIFESTS, "/token", "/tags/list", "away", "error"])
def test_what_was_compressed_unasked_is_refused_and_not_decompressed(
    pattern: str, faulty: FaultyRegistry, connect: Connect
) -> None:
    headers = {"Content-Encoding": "gzip, gzip"}
    content = bomb(100 << 20)
    session = connect(faulty.address, retries=0)
    if pattern == "away":
        faulty.when(MANIFESTS, faults.says(content, 307, {**headers, "Location": f"{faulty.url}/v2/loop"}))
        faulty.when("/v2/loop", faults.says(content, 307, {**headers, "Location": f"{faulty.url}/v2/loop"}))
    elif pattern == "error":
        faulty.when("", faults.says(content, 403, headers))
    else:
        faulty.when(pattern, faults.says(content, headers=headers))
    if pattern == "/token":
        faulty.when("/v2/", faults.challenged(CHALLENGE.format(url=faulty.url), {"Bearer abc"}))
    tracemalloc.start()
    try:
        with pytest.raises(RegistryError) as caught:
            session.tags("team/tiny") if pattern == "/tags/list" else session.get(name(faulty))
        assert tracemalloc.get_traced_memory()[1] < 30 << 20
    finally:
        tracemalloc.stop()
    if pattern not in ("away", "error"):
        assert "Content-Encoding 'gzip, gzip'" in str(caught.value)


@pytest.mark.parametrize("length", ["²", "9" * 5000, "-1"])
def test_a_length_that_is_no_number_is_not_believed(
    length: str, stored: Stored, faulty: FaultyRegistry, connect: Connect
) -> None:
    response = requests.Response()
    response.headers["Content-Length"] = length
    assert content_length(response) is None
    headers = {"Docker-Content-Digest": ZEROS, "Content-Length": length}
    if length.isascii():  # else the server cannot say it
        faulty.when(MANIFESTS, faults.says(b"", headers=headers), method="HEAD")
    assert connect(faulty.address).head(name(faulty)).digest == oci.digest_of(stored.tiny.manifest())


def test_a_digest_of_a_head_that_is_none_is_not_believed(
    stored: Stored, faulty: FaultyRegistry, connect: Connect
) -> None:
    faulty.when(MANIFESTS, faults.header("Docker-Content-Digest", "evil:../../x"), method="HEAD")
    assert connect(faulty.address).head(name(faulty)).digest == oci.digest_of(stored.tiny.manifest())


DEEP = b"[" * 60_000


def test_deep_json_is_no_traceback(faulty: FaultyRegistry, connect: Connect) -> None:
    session = connect(faulty.address, retries=0)
    faulty.when(MANIFESTS, faults.says(DEEP, 403))
    with pytest.raises(Denied):
        session.get(name(faulty))
    faulty.when("/tags/list", faults.says(DEEP))
    assert session.tags("team/tiny") == []


@pytest.mark.parametrize(
    ("told", "low", "high"),
    [("9" * 401, 60, 60), ("1e999", 1, 86400), ("NaN", 60, 60), ("-5", 0, 0), ("null", 60, 60), ("300", 300, 300)],
)
def test_the_lifetime_of_a_token_is_bounded(
    told: str, low: float, high: float, faulty: FaultyRegistry, connect: Connect
) -> None:
    assert low <= lifetime(json.loads(told)) <= high
    faulty.when("/v2/", faults.challenged(CHALLENGE.format(url=faulty.url), {"Bearer abc"}))
    faulty.when("/token", faults.says(b'{"token":"abc","expires_in":' + told.encode() + b"}"))
    connect(faulty.address).head(name(faulty))


@pytest.mark.parametrize("token", ["sec\r\nX-Evil: 1", "sec ret", "secß", "sec\u4e2d", "sec\x00"])
def test_a_token_that_fits_in_no_header_is_refused_and_not_shown(
    token: str, faulty: FaultyRegistry, connect: Connect
) -> None:
    faulty.when("/v2/", faults.challenged(CHALLENGE.format(url=faulty.url), set()))
    faulty.when("/token", faults.document({"token": token}))
    with pytest.raises(RegistryError, match="sent no token") as caught:
        connect(faulty.address).head(name(faulty))
    assert "sec" not in str(caught.value)


@pytest.mark.parametrize("length", ["1e999", "-1e999", "[]", "{}", '"x"', "null"])
def test_a_signature_of_nonsense_is_no_signature(length: str) -> None:
    protected = base64.urlsafe_b64encode(b'{"formatTail":"fQ","formatLength":' + length.encode() + b"}").decode()
    content = json.dumps({"schemaVersion": 1, "signatures": [{"protected": protected}]}).encode()
    assert manifest_digest(content) == f"sha256:{hashlib.sha256(content).hexdigest()}"


@pytest.mark.parametrize("asked", ["Fri, 31 Dec 9999 23:59:59 -9999", "Mon, 01 Jan 0001 00:00:00 +2359", "-7", ","])
def test_a_retry_after_of_nonsense_is_no_traceback(
    asked: str, faulty: FaultyRegistry, connect: Connect, pauses: list[float]
) -> None:
    faulty.when(MANIFESTS, faults.status(503, {"Retry-After": asked}), times=1)
    connect(faulty.address).get(name(faulty))
    assert all(0 <= pause <= 60 for pause in pauses)


def test_no_escape_sequence_reaches_a_message(faulty: FaultyRegistry, connect: Connect) -> None:
    session = connect(faulty.address, retries=0)
    escape = "\x1b[2J\x9b\u202e"
    faulty.when(MANIFESTS, faults.status(403, word=escape, message=escape * 1000), times=1)
    faulty.when(MANIFESTS, faults.status(404))
    faulty.when("/tags/list", faults.document({"tags": [escape * 1000] * 30}))
    for kind in (Denied, NotFound):
        with pytest.raises(kind) as caught:
            session.get(name(faulty))
        assert "\\x1b[2J" in str(caught.value)
        assert str(caught.value).isprintable()


@pytest.mark.parametrize("target", ["ftp://a:pa55@b/x?sig=s3cret", "gopher://b/x?sig=s3cret", "http://[::1?sig=s3cret"])
def test_the_query_of_a_redirect_is_not_shown(target: str, faulty: FaultyRegistry, connect: Connect) -> None:
    faulty.when(MANIFESTS, faults.status(302, {"Location": target}))
    with pytest.raises(RegistryError, match="not a web address") as caught:
        connect(faulty.address, retries=0).head(name(faulty))
    assert "s3cret" not in str(caught.value)
    assert "pa55" not in str(caught.value)


def test_the_query_of_an_address_that_does_not_answer_is_not_shown(faulty: FaultyRegistry, connect: Connect) -> None:
    with FaultyRegistry() as gone:
        url = gone.url
    faulty.when(MANIFESTS, faults.status(302, {"Location": f"{url}/x?sig=s3cret"}))
    with pytest.raises(Unreachable) as caught:
        connect(faulty.address, retries=0).head(name(faulty))
    assert "s3cret" not in str(caught.value)
