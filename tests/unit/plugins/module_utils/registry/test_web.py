# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files of a web server: what stands under an address, where a transfer goes on, and who sees the login."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import (
    CertificateError,
    CredentialsError,
    Denied,
    NotFound,
    RegistryError,
    Unauthorized,
)
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.blobs import BlobCache
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.reference import Reference
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.registry.web import Download, Web
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.transport.keychain import Keychain, Login
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.transport.options import Transport

from tests.faults import Fault, FaultyRegistry, faults

CONTENT = bytes(range(256)) * 4000
DATE, LATER = "Sun, 22 Nov 2026 06:00:00 GMT", "Sun, 22 Nov 2026 07:00:00 GMT"
LOGIN = ("me", "open sesame")


@pytest.fixture
def site() -> Iterator[FaultyRegistry]:
    with FaultyRegistry() as server:
        yield server


def web(login: tuple[str, str] | None = None, http: bool = True, **how: object) -> Web:
    transport = Transport(http=http, timeout=20.0, retries=1, **how)  # type: ignore[arg-type]
    return Web(Keychain(Login(*login) if login else None), transport)


def name(site: FaultyRegistry, path: str = "/a.sif") -> Reference:
    return Reference.parse(f"{site.url}{path}")


def received(client: Web, download: Download, offset: int = 0) -> tuple[int, bytes]:
    with client.content(download, offset) as (begin, chunks):
        return begin, b"".join(chunks)


@pytest.mark.parametrize(
    ("told", "validators"),
    [
        ({"etag": '"one"', "last_modified": DATE}, {"etag": '"one"', "last_modified": DATE}),
        ({"etag": 'W/"one"'}, {"etag": 'W/"one"'}),
        ({}, {}),
    ],
)
def test_one_head_tells_what_stands_under_an_address(
    site: FaultyRegistry, told: dict[str, str], validators: dict[str, str]
) -> None:
    site.when("/a.sif", faults.served(CONTENT, **told))  # type: ignore[arg-type]
    found = web().head(name(site, "/a.sif?signature=x"))
    assert found.validators == {**validators, "size": len(CONTENT)}
    assert found.documents == {"web": found.validators}
    assert found.media_type == "application/octet-stream"
    assert found.doubtful == (not validators)
    assert [(one.method, one.path) for one in site.requests] == [("HEAD", "/a.sif?signature=x")]


@pytest.mark.parametrize("code", [400, 401, 403, 404, 405, 501])
@pytest.mark.parametrize("ranges", [True, False])
def test_a_server_that_takes_no_head_is_asked_for_one_byte(site: FaultyRegistry, code: int, ranges: bool) -> None:
    site.when("/a.sif", faults.status(code), method="HEAD")
    site.when("/a.sif", faults.served(CONTENT, '"one"', ranges=ranges))
    assert web().head(name(site)).validators == {"etag": '"one"', "size": len(CONTENT)}
    assert [one.headers.get("range") for one in site.requests] == [None, "bytes=0-0"]


@pytest.mark.parametrize(
    ("told", "condition"),
    [
        ({"etag": '"one"', "last_modified": DATE}, '"one"'),
        ({"etag": 'W/"one"', "last_modified": DATE}, DATE),
        ({"last_modified": DATE}, DATE),
        ({"etag": f'"{"long" * 100}"', "last_modified": DATE}, DATE),
    ],
)
def test_a_transfer_goes_on_where_it_broke_while_the_file_is_the_same(
    site: FaultyRegistry, told: dict[str, str], condition: str
) -> None:
    site.when("/a.sif", faults.served(CONTENT, **told))  # type: ignore[arg-type]
    client = web()
    assert received(client, client.head(name(site)), 1000) == (1000, CONTENT[1000:])
    assert site.requests[-1].headers["if-range"] == condition


def test_a_transfer_begins_anew_where_the_file_is_another_one(site: FaultyRegistry) -> None:
    site.when("/a.sif", faults.served(CONTENT, '"one"', DATE), method="HEAD")
    site.when("/a.sif", faults.served(CONTENT, '"two"', LATER))
    client = web()
    assert received(client, client.head(name(site)), 1000) == (0, CONTENT)


@pytest.mark.parametrize("told", [{}, {"etag": 'W/"one"'}, {"etag": f'"{"long" * 100}"'}])
def test_a_transfer_begins_anew_where_nothing_tells_that_the_file_is_the_same(
    site: FaultyRegistry, told: dict[str, str]
) -> None:
    site.when("/a.sif", faults.served(CONTENT, **told))  # type: ignore[arg-type]
    client = web()
    assert received(client, client.head(name(site)), 1000) == (0, CONTENT)
    assert "range" not in site.requests[-1].headers


def test_an_offset_at_the_end_of_a_file_begins_anew(site: FaultyRegistry) -> None:
    site.when("/a.sif", faults.served(CONTENT, '"one"'))
    client = web()
    assert received(client, client.head(name(site)), len(CONTENT)) == (0, CONTENT)


def test_a_broken_transfer_comes_whole_into_the_cache(site: FaultyRegistry, tmp_path: Path) -> None:
    site.when("/a.sif", faults.together(faults.truncated(300_000), faults.served(CONTENT, '"one"')), "GET", 1)
    site.when("/a.sif", faults.served(CONTENT, '"one"'))
    client, cache = web(), BlobCache(str(tmp_path))
    found = client.head(name(site))
    digest, obtained = cache.discover("key", found.size, lambda offset: client.content(found, offset), "the file")
    assert Path(cache.path(digest)).read_bytes() == CONTENT
    assert obtained.received == len(CONTENT)


def test_a_login_is_sent_when_it_is_asked_for_and_from_then_on(site: FaultyRegistry) -> None:
    accepted = faults.basic(*LOGIN)
    site.when("/a.sif", faults.together(faults.challenged('Basic realm="x"', {accepted}), faults.served(CONTENT)))
    client = web(LOGIN)
    received(client, client.head(name(site)))
    assert [one.headers.get("authorization") for one in site.requests] == [None, accepted, accepted]


def test_a_login_is_not_sent_to_where_a_server_leads(site: FaultyRegistry) -> None:
    with FaultyRegistry() as elsewhere:
        elsewhere.when("/a.sif", faults.challenged('Basic realm="x"', {faults.basic(*LOGIN)}))
        site.when("/a.sif", faults.redirected(elsewhere.url))
        with pytest.raises(Unauthorized):
            web(LOGIN).head(name(site))
        assert [one.headers.get("authorization") for one in elsewhere.requests] == [None, None]


def test_a_login_that_would_travel_in_clear_is_not_sent_unless_that_is_allowed(site: FaultyRegistry) -> None:
    site.when("/a.sif", faults.challenged('Basic realm="x"', {faults.basic(*LOGIN)}))
    with pytest.raises(CredentialsError, match="would travel unencrypted"):
        web(LOGIN, http=False).head(name(site))
    assert [one.headers.get("authorization") for one in site.requests] == [None]


@pytest.mark.parametrize(
    ("fault", "kind", "why"),
    [
        (faults.status(404), NotFound, "not found: {name} (status 404 from {host}); check the address"),
        (faults.status(403), Denied, "denied: {host} does not give out {name} (status 403"),
        (faults.status(401), Unauthorized, "unauthorized: {host} wants a login for {name} (status 401"),
        (faults.status(500), RegistryError, "{host} failed to serve {name} (status 500 from {host})"),
        (
            faults.served(b"<html>", content_type="text/html; charset=utf-8"),
            RegistryError,
            "{name} is not a SIF file but a page of type text/html, such as one to log in with",
        ),
    ],
)
def test_a_refusal_names_the_address_without_its_query(
    site: FaultyRegistry, pauses: list[float], fault: Fault, kind: type[RegistryError], why: str
) -> None:
    site.when("/a.sif", fault)
    with pytest.raises(kind) as error:
        web().head(name(site, "/a.sif?signature=secret"))
    assert why.format(name=f"{site.url}/a.sif", host=site.address) in str(error.value)
    assert "secret" not in str(error.value)


def test_a_server_with_tls_does_not_lead_to_one_without(site: FaultyRegistry, tls: Path) -> None:
    site.when("/a.sif", faults.served(CONTENT, '"one"'))
    with FaultyRegistry(certificate=(tls / "server.pem", tls / "server.key")) as secure:
        secure.when("/a.sif", faults.redirected(site.url))
        client = web(http=False, verify=str(tls / "ca.pem"))
        with pytest.raises(RegistryError, match="without TLS, where anybody may change it"):
            client.head(name(secure))
        pinned = name(secure, f"/a.sif@sha256:{'0' * 64}")
        assert client.head(pinned).size == len(CONTENT)
        with pytest.raises(CertificateError):
            web(http=False).head(name(secure))
