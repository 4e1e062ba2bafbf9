# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Mirrors are asked first and in their order; what they cannot give comes from the registry, and never damaged."""

from __future__ import annotations

import itertools
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import (
    InvalidReference,
    NotFound,
    RegistryError,
    Unreachable,
)
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.blobs import BlobCache
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.descriptor import Descriptor
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.reference import Reference
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.registry.blob_source import source_of
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.registry.location import Location
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.registry.mirror import MirroredRegistry
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.registry.pool import Registries
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.transport import adapter
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.transport.keychain import Keychain, Login
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.transport.options import Transport
from ansible_collections.hpc.sregistry.tests.unit.plugins.module_utils.conftest import Stored
from ansible_collections.hpc.sregistry.tests.unit.plugins.module_utils.raw import RawServer

from tests.faults import FaultyRegistry, faults
from tests.faults.server import Answer, Request, Upstream
from tests.lab import oci

NOBODY = "127.0.0.1:1"
Open = Callable[..., MirroredRegistry]


@pytest.fixture
def origin(stored: Stored) -> Iterator[FaultyRegistry]:
    """Yield the registry that is mirrored, and all requests to it."""
    with FaultyRegistry(stored.url) as registry:
        yield registry


@pytest.fixture
def open_mirrored(origin: FaultyRegistry) -> Iterator[Open]:
    """Open the registry with mirrors at these addresses, as an option gives them."""
    opened: list[MirroredRegistry] = []

    def open_it(*addresses: str, keychain: Keychain | None = None, retries: int = 0) -> MirroredRegistry:
        mirrors = [Location.parse(f"http://{address}", "mirror") for address in addresses]
        transport = Transport(http=True, timeout=10.0, retries=retries)
        opened.append(MirroredRegistry(origin.address, keychain or Keychain(), transport, mirrors))
        return opened[-1]

    yield open_it
    for registry in opened:
        registry.close()


def tiny(origin: FaultyRegistry, tag: str = "1.0") -> Reference:
    """Return the name of an image as a user writes it: of the registry that is mirrored."""
    return Reference(origin.address, "team/tiny", tag)


@pytest.mark.parametrize(
    ("text", "mirror"),
    [
        ("mirror.example.org", Location("mirror.example.org")),
        ("https://mirror.example.org:5000/", Location("mirror.example.org:5000")),
        ("http://10.0.0.1:5000", Location("10.0.0.1:5000", http=True)),
        ("harbor.example.org/hub-proxy", Location("harbor.example.org", prefix="hub-proxy/")),
        ("https://harbor.example.org/v2/hub-proxy/", Location("harbor.example.org", prefix="hub-proxy/")),
        ("localhost:5000/a/b", Location("localhost:5000", prefix="a/b/")),
    ],
)
def test_an_address_is_read(text: str, mirror: Location) -> None:
    assert Location.parse(text, "mirror") == mirror
    assert Location.parse(str(mirror), "mirror") == mirror


@pytest.mark.parametrize("text", ["", "ftp://host", "https://", "host/a?b=c", "host/#x", "a b", "ada:pa55@host"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidReference, match=r"invalid (mirror|registry)") as refusal:
        Location.parse(text, "mirror")
    assert "pa55" not in str(refusal.value)


def test_a_mirror_that_has_it_spares_the_registry(
    stored: Stored, origin: FaultyRegistry, faulty: FaultyRegistry, open_mirrored: Open
) -> None:
    registry = open_mirrored(faulty.address)
    found = registry.head(tiny(origin))
    body = registry.get(tiny(origin).at(found.digest))
    with registry.blob("team/big", stored.blob.digest) as (begin, data):
        content = b"".join(data)
    assert found.digest == body.digest == oci.digest_of(stored.tiny.manifest())
    assert (begin, content) == (0, stored.blob.blob)
    assert len(faulty.requests) == 3
    assert origin.requests == []
    assert registry.warnings("team/tiny") == []


def test_a_repository_is_below_the_prefix_of_a_mirror(
    stored: Stored, origin: FaultyRegistry, faulty: FaultyRegistry, open_mirrored: Open
) -> None:
    stored.push("hub/team/tiny:1.0", stored.tiny)
    assert open_mirrored(f"{faulty.address}/hub").head(tiny(origin)).digest == oci.digest_of(stored.tiny.manifest())
    assert [request.path for request in faulty.requests] == ["/v2/hub/team/tiny/manifests/1.0"]
    assert origin.requests == []


def test_what_a_mirror_has_not_comes_from_the_registry_and_it_is_not_asked_twice(
    stored: Stored, origin: FaultyRegistry, faulty: FaultyRegistry, open_mirrored: Open
) -> None:
    registry = open_mirrored(f"{faulty.address}/elsewhere")
    for _time in range(2):
        assert registry.head(tiny(origin)).digest == oci.digest_of(stored.tiny.manifest())
    assert len([request for request in faulty.requests if request.method == "HEAD"]) == 1
    assert len(origin.requests) == 2
    assert registry.warnings("team/tiny") == []


def test_a_mirror_that_does_not_answer_is_asked_once_with_a_warning(
    stored: Stored, origin: FaultyRegistry, faulty: FaultyRegistry, open_mirrored: Open
) -> None:
    registry = open_mirrored(NOBODY, faulty.address)
    for _time in range(2):
        registry.head(tiny(origin))
    assert origin.requests == []
    assert len(faulty.requests) == 2
    (warning,) = registry.warnings("team/tiny")
    assert f"the mirror http://{NOBODY} could not be used: no answer" in warning
    assert registry.warnings("team/tiny") == []


def test_where_nobody_has_it_the_registrys_error_tells_of_the_mirrors(
    origin: FaultyRegistry, faulty: FaultyRegistry, open_mirrored: Open
) -> None:
    with pytest.raises(NotFound, match=r"has no tag 'none'.*; its mirrors before it: manifest unknown: .*no answer"):
        open_mirrored(faulty.address, NOBODY).head(tiny(origin, "none"))


def test_a_mirror_never_gets_the_login_of_the_registry(
    origin: FaultyRegistry, faulty: FaultyRegistry, open_mirrored: Open
) -> None:
    for registry in (origin, faulty):
        registry.when("/manifests/", faults.challenged('Basic realm="x"', []))
    mirrored = open_mirrored(faulty.address, keychain=Keychain(Login("ada", "pa55")))
    with pytest.raises(RegistryError):
        mirrored.head(tiny(origin))
    assert {request.headers.get("authorization") for request in faulty.requests} == {None}
    assert any(request.headers.get("authorization") for request in origin.requests)


def test_a_mirror_has_a_login_of_its_own(
    tmp_path: Path, origin: FaultyRegistry, faulty: FaultyRegistry, open_mirrored: Open
) -> None:
    authfile = tmp_path / "config.json"
    authfile.write_text(f'{{"auths": {{"{faulty.address}": {{"username": "mirror", "password": "own"}}}}}}')
    faulty.when("/manifests/", faults.challenged('Basic realm="x"', [faults.basic("mirror", "own")]))
    mirrored = open_mirrored(faulty.address, keychain=Keychain(Login("ada", "pa55"), str(authfile)))
    mirrored.head(tiny(origin))
    assert faulty.requests[-1].headers["authorization"] == Login("mirror", "own").basic
    assert origin.requests == []


@pytest.mark.parametrize("begun", [0, 1 << 20])
def test_a_blob_that_a_mirror_damages_comes_from_the_registry(
    stored: Stored, origin: FaultyRegistry, faulty: FaultyRegistry, open_mirrored: Open, tmp_path: Path, begun: int
) -> None:
    faulty.when("/blobs/", faults.corrupted(2 << 20))
    cache = BlobCache(str(tmp_path))
    registry = open_mirrored(faulty.address)
    layer = Descriptor(stored.blob.digest, len(stored.blob.blob), "application/octet-stream")
    if begun:  # what a killed run left
        place = Path(cache.path(layer.digest))
        place.parent.mkdir(parents=True)
        (place.parent / f".{place.name}.partial").write_bytes(stored.blob.blob[:begun])
    obtained = cache.obtain(layer, source_of(registry, "team/big", layer), "the layer")
    assert Path(obtained.path).read_bytes() == stored.blob.blob
    assert [request.method for request in origin.requests] == ["GET"]
    assert "sent other content" in str(registry.warnings("team/big"))


def test_a_blob_that_breaks_off_is_continued_by_whoever_answers(
    stored: Stored, origin: FaultyRegistry, faulty: FaultyRegistry, open_mirrored: Open, tmp_path: Path
) -> None:
    faulty.when("/blobs/", faults.truncated(1 << 20), times=1)
    faulty.when("/blobs/", faults.status(503))
    registry = open_mirrored(faulty.address)
    layer = Descriptor(stored.blob.digest, len(stored.blob.blob), "application/octet-stream")
    cache = BlobCache(str(tmp_path))
    obtained = cache.obtain(layer, source_of(registry, "team/big", layer), "the layer")
    assert Path(obtained.path).read_bytes() == stored.blob.blob
    assert [request.headers.get("range", "")[:6] for request in origin.requests] == ["bytes="]


def test_a_mirror_that_trickles_is_left_for_the_registry(
    stored: Stored, origin: FaultyRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = Descriptor(stored.blob.digest, len(stored.blob.blob), "application/octet-stream")

    def talk(connection: socket.socket, _number: int) -> None:
        mirror.heard(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(stored.blob.blob))
        for byte in stored.blob.blob:
            connection.sendall(bytes((byte,)))
            sleep(0.001)

    sleep = time.sleep
    monkeypatch.setattr(adapter, "_clock", itertools.count(0.0, 10.0).__next__)
    with RawServer(talk) as mirror:
        location = Location.parse(f"http://{mirror.address}", "mirror")
        registry = MirroredRegistry(origin.address, Keychain(), Transport(http=True, retries=0), [location])
        cache = BlobCache(str(tmp_path))
        obtained = cache.obtain(layer, source_of(registry, "team/big", layer), "the layer")
        registry.close()
        assert mirror.connections == 1
    assert Path(obtained.path).read_bytes() == stored.blob.blob
    assert len(origin.requests) == 1


@pytest.mark.parametrize("page", [b"<html>log in", b"<html>" + bytes(5 << 20)], ids=["page", "large page"])
def test_a_mirror_that_sends_pages_for_people_is_left_for_the_registry(
    page: bytes, stored: Stored, origin: FaultyRegistry, faulty: FaultyRegistry, open_mirrored: Open
) -> None:
    faulty.when("", faults.says(page, headers={"Content-Type": "text/html; charset=utf-8"}))
    registry = open_mirrored(faulty.address)
    for ask in (registry.head, registry.get, registry.get_or_none):
        found = ask(tiny(origin))
        assert found
        assert found.digest == oci.digest_of(stored.tiny.manifest())
    assert "could not be used" in registry.warnings("team/tiny")[0]


@pytest.mark.parametrize("cut", [0, 1000, 300_000, None], ids=["nothing", "a little", "more than a piece", "too much"])
def test_a_mirror_that_breaks_off_each_time_is_left_for_the_registry_with_what_it_did_send_kept(
    cut: int | None, stored: Stored, origin: FaultyRegistry, faulty: FaultyRegistry, tmp_path: Path
) -> None:
    content = stored.blob.blob
    layer = Descriptor(stored.blob.digest, len(content), "application/octet-stream")

    def serve(request: Request, upstream: Upstream) -> Answer:
        answer = upstream(request)
        if cut is None:
            return replace(answer, body=answer.body + bytes(1 << 20))
        return replace(answer, cut=0 if "range" in request.headers else cut)

    faulty.when("/blobs/", serve)
    location = Location.parse(f"http://{faulty.address}", "mirror")
    registry = MirroredRegistry(origin.address, Keychain(), Transport(http=True, retries=0), [location])
    obtained = BlobCache(str(tmp_path)).obtain(layer, source_of(registry, "team/big", layer), "the layer")
    registry.close()
    assert Path(obtained.path).read_bytes() == content
    assert [each.headers.get("range") for each in origin.requests] == [f"bytes={cut}-" if cut else None]


def test_only_registries_with_mirrors_have_some(origin: FaultyRegistry, faulty: FaultyRegistry) -> None:
    mirrors = {origin.address: [Location.parse(f"http://{faulty.address}", "mirror")]}
    registries = Registries(Keychain(), Transport(http=True, retries=0), mirrors)
    assert isinstance(registries.of(tiny(origin)), MirroredRegistry)
    assert not isinstance(registries.of(Reference(NOBODY, "team/tiny", "1.0")), MirroredRegistry)
    with pytest.raises(Unreachable):
        registries.of(Reference(NOBODY, "team/tiny", "1.0")).head(Reference(NOBODY, "team/tiny", "1.0"))
    registries.close()
