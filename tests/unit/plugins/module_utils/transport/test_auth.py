# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Logins that a registry and its token server get to see, the effect of a refusal, and its message."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import (
    Denied,
    NotFound,
    RegistryError,
    Unauthorized,
)
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.reference import Reference
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.registry.client import Registry
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.registry.pool import Registries
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.transport.keychain import Keychain, Login
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.transport.options import Transport
from ansible_collections.hpc.sregistry.tests.unit.plugins.module_utils.conftest import Connect

from tests.faults import Fault, FaultyRegistry, faults

ANN = {"username": "ann", "password": "s3cret"}
BASIC = faults.basic("ann", "s3cret")
IDENTITY = {"auth": BASIC.partition(" ")[2], "identitytoken": "r3fresh"}
SECRETS = ("s3cret", BASIC.partition(" ")[2], "r3fresh", "b3arer")
GRANTED = faults.document({"token": "granted", "expires_in": 300})

Enter = Callable[["dict[str, str] | None"], Registry]


@pytest.fixture
def token_server() -> Iterator[FaultyRegistry]:
    """Yield another host, which gives tokens."""
    with FaultyRegistry() as server:
        yield server


@pytest.fixture
def enter(faulty: FaultyRegistry, connect: Connect, tmp_path: Path) -> Enter:
    """Open a session to the faulty registry with an entry of an authfile."""

    def session(entry: dict[str, str] | None) -> Registry:
        path = tmp_path / "config.json"
        path.write_text(json.dumps({"auths": {faulty.address: entry} if entry else {}}))
        return connect(faulty.address, keychain=Keychain(authfile=str(path)))

    return session


def bearer(faulty: FaultyRegistry, server: FaultyRegistry, accepted: set[str], more: str = "") -> None:
    """Let a registry want tokens of a server."""
    faulty.when("/v2/", faults.challenged(f'Bearer realm="{server.url}/token",service="s p"{more}', accepted))


def image(faulty: FaultyRegistry, name: str = "team/tiny:1.0") -> Reference:
    """Return an image of the registry."""
    return Reference.parse(f"{faulty.address}/{name}")


def refused(session: Registry, wanted: Reference, kind: type[RegistryError] = Unauthorized) -> str:
    """Return the message of what must be refused; no secret is in it."""
    with pytest.raises(kind) as caught:
        session.get(wanted)
    message = str(caught.value)
    assert not any(secret in message for secret in SECRETS)
    return message


# Identity tokens


@pytest.mark.parametrize("entry", [IDENTITY, {"identitytoken": "r3fresh"}], ids=["as docker writes it", "alone"])
def test_an_identity_token_is_exchanged_and_goes_to_the_token_server_only(
    entry: dict[str, str], faulty: FaultyRegistry, token_server: FaultyRegistry, enter: Enter
) -> None:
    bearer(faulty, token_server, {"Bearer granted"})
    token_server.when("/token", GRANTED)
    session = enter(entry)
    session.head(image(faulty))
    session.get(image(faulty))
    (asked,) = token_server.requests
    assert (asked.method, asked.path) == ("POST", "/token")
    assert "authorization" not in asked.headers
    assert asked.headers["content-type"] == "application/x-www-form-urlencoded"
    assert parse_qs(asked.body.decode()) == {
        "grant_type": ["refresh_token"],
        "refresh_token": ["r3fresh"],
        "service": ["s p"],
        "client_id": ["hpc.sregistry"],
        "scope": ["repository:team/tiny:pull"],
    }
    assert [each.headers.get("authorization") for each in faulty.requests] == [None, *["Bearer granted"] * 2]


@pytest.mark.parametrize("status", [404, 405])
def test_a_server_without_oauth2_gets_user_name_and_password(
    status: int, faulty: FaultyRegistry, token_server: FaultyRegistry, enter: Enter
) -> None:
    bearer(faulty, token_server, {"Bearer granted"})
    token_server.when("/token", faults.status(status), method="POST")
    token_server.when("/token", GRANTED, method="GET")
    enter(IDENTITY).head(image(faulty))
    assert [each.headers.get("authorization") for each in token_server.requests] == [None, BASIC]


def test_a_redirect_does_not_take_an_identity_token_to_another_host(
    faulty: FaultyRegistry, token_server: FaultyRegistry, enter: Enter
) -> None:
    bearer(faulty, token_server, set())
    with FaultyRegistry() as thief:
        token_server.when("/token", faults.status(307, {"Location": f"{thief.url}/token"}))
        with pytest.raises(RegistryError, match=rf"redirects .* to {thief.url}/token; the login was not sent there"):
            enter(IDENTITY).head(image(faulty))
        assert thief.requests == []


def test_an_identity_token_is_nothing_for_a_registry_that_wants_a_password(
    faulty: FaultyRegistry, enter: Enter
) -> None:
    faulty.when("", faults.challenged("Basic realm=x", {BASIC}))
    message = refused(enter({"identitytoken": "r3fresh"}), image(faulty))
    assert "wants user name and password" in message
    assert all("authorization" not in each.headers for each in faulty.requests)
    enter(IDENTITY).get(image(faulty))


# Registries that do not ask


def veiled(answer: Fault, opened: set[str]) -> Fault:
    """Give the real answer to requests with one of these headers, and another one to all others."""
    return lambda request, upstream: (
        upstream(request.with_header("authorization", None))
        if request.headers.get("authorization") in opened
        else answer(request, upstream)
    )


@pytest.mark.parametrize("scheme", ["basic", "bearer"])
@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_login_is_sent_where_only_the_door_asks_for_one(
    status: int, scheme: str, faulty: FaultyRegistry, token_server: FaultyRegistry, enter: Enter
) -> None:
    challenge = "Basic realm=x"
    if scheme == "bearer":
        challenge = f'Bearer realm="{token_server.url}/token",service="s",scope="repository:user/image:pull"'
    token_server.when("/token", GRANTED)
    faulty.when("/v2/$", faults.challenged(challenge, set()))
    faulty.when("/v2/", veiled(faults.status(status), {BASIC if scheme == "basic" else "Bearer granted"}))
    session = enter(ANN)
    found = session.head(image(faulty))
    assert session.get(image(faulty)).digest == found.digest
    assert session.get_or_none(image(faulty, "team/tiny:2.0")) is not None
    assert [each.path for each in faulty.requests].count("/v2/") == 1
    scopes = [parse_qs(each.path.partition("?")[2])["scope"] for each in token_server.requests]
    assert scopes == ([["repository:team/tiny:pull"]] if scheme == "bearer" else []), "that of /v2/ is no scope"


def test_who_looks_for_what_may_not_be_there_asks_at_the_door_too(faulty: FaultyRegistry, enter: Enter) -> None:
    faulty.when("/v2/$", faults.challenged("Basic realm=x", set()))
    faulty.when("/v2/", veiled(faults.status(404), {BASIC}))
    session = enter(ANN)
    assert session.get_or_none(image(faulty, "team/tiny:absent")) is None
    assert session.get_or_none(image(faulty)) is not None


@pytest.mark.parametrize("status", [401, 403, 404])
@pytest.mark.parametrize(
    "door",
    [faults.status(200), faults.status(401), faults.status(404), faults.dropped(), faults.challenged("x", set())],
    ids=["200", "401", "404", "nothing", "Negotiate"],
)
def test_what_is_denied_to_all_stays_so_without_a_challenge(
    status: int, door: Fault, faulty: FaultyRegistry, connect: Connect, pauses: list[float]
) -> None:
    faulty.when("/v2/$", door)
    faulty.when("/v2/", faults.status(status))
    session = connect(faulty.address, ("ann", "s3cret"))
    kind = {401: Unauthorized, 403: Denied, 404: NotFound}[status]
    message = refused(session, image(faulty), kind)
    refused(session, image(faulty, "team/big:1"), kind)
    assert not any("authorization" in each.headers for each in faulty.requests)
    assert len(faulty.asked("/v2/$")) in (1, 4), "asked once, with its tries"
    if status == 401:
        assert f"tried as anonymous, for {faulty.address} does not ask for the user name and password" in message


@pytest.mark.parametrize("status", [401, 403, 404])
def test_who_has_no_login_does_not_ask_at_the_door(status: int, faulty: FaultyRegistry, enter: Enter) -> None:
    faulty.when("/v2/", faults.status(status))
    message = refused(enter(None), image(faulty), RegistryError)
    assert faulty.asked("/v2/$") == []
    if status == 401:
        assert f"config.json has no login for {faulty.address}" in message


def test_a_broken_authfile_is_the_reason_for_no_login(faulty: FaultyRegistry, connect: Connect, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("no JSON")
    faulty.when("/v2/", faults.status(401))
    session = connect(faulty.address, keychain=Keychain(authfile=str(tmp_path / "config.json")))
    assert "tried as anonymous, for the authfile" in refused(session, image(faulty))


# Scopes that a registry asks for

OWN, OTHER = "repository:team/tiny:pull", "repository:hub/library/tiny:pull"


@pytest.mark.parametrize(
    ("asked", "scopes"),
    [
        (OWN, [OWN]),
        (OTHER, [OTHER, OWN]),
        (f"{OWN} {OTHER}", [OTHER, OWN]),
        ("repository:team/tiny:pull,push", ["repository:team/tiny:pull,push", OWN]),
        ("registry:catalog:*", ["registry:catalog:*", OWN]),
        ("", [OWN]),
    ],
)
def test_the_scope_of_a_challenge_is_asked_for_beside_our_own(
    asked: str, scopes: list[str], faulty: FaultyRegistry, token_server: FaultyRegistry, enter: Enter
) -> None:
    bearer(faulty, token_server, {"Bearer granted"}, f',scope="{asked}"')
    token_server.when("/token", GRANTED)
    session = enter(ANN)
    session.get(image(faulty))
    session.get(image(faulty, "team/big:1"))
    first, second = (parse_qs(each.path.partition("?")[2])["scope"] for each in token_server.requests)
    assert first == scopes
    assert second == ["repository:team/big:pull"], "what one repository needs, another one may not get"


def test_a_scope_that_is_wanted_later_renews_the_token(
    faulty: FaultyRegistry, token_server: FaultyRegistry, enter: Enter
) -> None:
    bearer(faulty, token_server, {"Bearer granted"})
    token_server.when("hub", faults.document({"token": "wide"}))
    token_server.when("/token", GRANTED)
    session = enter(ANN)
    session.head(image(faulty))
    faulty.calm()
    bearer(faulty, token_server, {"Bearer wide"}, f',scope="{OTHER}"')
    session.head(image(faulty))
    session.head(image(faulty))
    assert [each.headers["authorization"] for each in faulty.requests] == ["Bearer granted", *["Bearer wide"] * 2]


def test_where_a_token_server_refuses_the_other_scope_our_own_is_asked_for_alone(
    faulty: FaultyRegistry, token_server: FaultyRegistry, enter: Enter
) -> None:
    bearer(faulty, token_server, {"Bearer granted"}, f',scope="{OTHER}"')
    token_server.when("hub", faults.status(403))
    token_server.when("/token", GRANTED)
    session = enter(ANN)
    session.head(image(faulty))
    assert session.warnings("team/tiny") == []


# Tokens for the registry itself


def test_a_registry_token_goes_to_the_registry_as_it_is(
    faulty: FaultyRegistry, token_server: FaultyRegistry, enter: Enter
) -> None:
    bearer(faulty, token_server, {"Bearer b3arer"})
    session = enter({"registrytoken": "b3arer"})
    session.get(image(faulty))
    assert token_server.requests == []
    faulty.calm()
    bearer(faulty, token_server, set())
    assert f"{faulty.address} did not accept the login of the authfile" in refused(session, image(faulty))


# Logins of a file that are not accepted


@pytest.mark.parametrize(
    ("entry", "answer", "words"),
    [
        (ANN, faults.status(401, word="UNAUTHORIZED", message="expired"), "status 401 from .*: UNAUTHORIZED expired"),
        (ANN, faults.says(b'{"details": "no s3cret"}', 401), r"status 401 from .*: no \*{8}\)"),
        (ANN, faults.status(403, word="DENIED", message="no"), "status 403 from .*: DENIED no"),
        (IDENTITY, faults.says(b'{"error": "invalid_grant", "error_description": "r3fresh"}', 400), "400.*invalid_g"),
        (IDENTITY, faults.status(401), "status 401"),
        ({"identitytoken": "r3fresh"}, faults.status(404), "status 404"),
    ],
)
def test_a_login_of_a_file_that_is_not_accepted_gives_way_to_anonymous_with_a_warning(
    entry: dict[str, str],
    answer: Fault,
    words: str,
    faulty: FaultyRegistry,
    token_server: FaultyRegistry,
    enter: Enter,
) -> None:
    bearer(faulty, token_server, {"Bearer granted"})
    token_server.when("/token", answer, times=1)
    token_server.when("/token", GRANTED)
    session = enter(entry)
    session.get(image(faulty))
    session.head(image(faulty, "team/big:1"))
    asked = [(each.method, each.headers.get("authorization")) for each in token_server.requests]
    assert asked[1:2] == [("GET", None)]
    (warning,) = session.warnings("team/tiny")
    assert warning.startswith(f"{faulty.address} did not accept the login of the authfile")
    assert re.search(words, warning)
    assert not any(secret in warning for secret in SECRETS)


def test_a_login_that_was_not_accepted_is_not_sent_again(
    faulty: FaultyRegistry, token_server: FaultyRegistry, enter: Enter
) -> None:
    bearer(faulty, token_server, {"Bearer granted"})
    token_server.when("/token", faults.status(401), times=1)
    token_server.when("/token", GRANTED)
    session = enter(ANN)
    for name in ("team/tiny:1.0", "team/big:1", "team/multi:1"):
        session.head(image(faulty, name))
    assert [each.headers.get("authorization") for each in token_server.requests] == [BASIC, None, None, None]


@pytest.mark.parametrize("where", ["token server", "registry"])
def test_where_anonymous_is_refused_too_both_are_said(
    where: str, faulty: FaultyRegistry, token_server: FaultyRegistry, enter: Enter
) -> None:
    bearer(faulty, token_server, set())
    token_server.when("/token", faults.status(401, message="expired"), times=1)
    token_server.when("/token", faults.status(401, message="who are you") if where == "token server" else GRANTED)
    message = refused(enter(ANN), image(faulty))
    source = f"did not accept the login of the authfile .*config.json, key '{faulty.address}'"
    assert re.search(f"^unauthorized: .*{source} .status 401 from {token_server.address}: expired", message)
    assert "to anonymous users (status 401 from" in message
    assert ("who are you" in message) == (where == "token server")
    assert "log in again" in message


def test_a_token_server_in_trouble_is_no_refused_login(
    faulty: FaultyRegistry, token_server: FaultyRegistry, enter: Enter, pauses: list[float]
) -> None:
    bearer(faulty, token_server, {"Bearer granted"})
    token_server.when("/token", faults.status(503), times=4)
    token_server.when("/token", GRANTED)
    with pytest.raises(RegistryError, match=r"status 503.*tried 4 times"):
        enter(ANN).head(image(faulty))
    assert all(each.headers.get("authorization") == BASIC for each in token_server.requests)
    assert len(pauses) == 3


def test_a_wrong_password_of_a_file_does_not_close_what_is_open_to_all(faulty: FaultyRegistry, enter: Enter) -> None:
    faulty.when("team/big", faults.challenged("Basic realm=x", {BASIC}))
    faulty.when("team/tiny", faults.challenged("Basic realm=x", {None}))  # type: ignore[arg-type]
    session = enter({**ANN, "password": "wrong"})
    assert "did not accept the login of the authfile" in refused(session, image(faulty, "team/big:1"))
    session.get(image(faulty))
    assert "authorization" in faulty.requests[-2].headers, "what is remembered is tried"
    assert "authorization" not in faulty.requests[-1].headers
    assert session.warnings("team/tiny")


@pytest.mark.parametrize("scheme", ["basic", "bearer"])
def test_a_login_that_does_not_open_one_repository_still_opens_another(
    scheme: str, faulty: FaultyRegistry, token_server: FaultyRegistry, enter: Enter
) -> None:
    if scheme == "basic":
        faulty.when("team/big", faults.challenged("Basic realm=x", set()))
        faulty.when("/v2/", faults.challenged("Basic realm=x", {BASIC}))
    else:
        bearer(faulty, token_server, {"Bearer granted"})
        token_server.when("big", faults.status(403))
        token_server.when("/token", GRANTED)
    session = enter(ANN)
    refused(session, image(faulty, "team/big:1"), Unauthorized if scheme == "basic" else Denied)
    session.get(image(faulty))
    assert session.warnings("team/tiny") == []


# Logins of the task


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (faults.status(401), Unauthorized, "did not accept the user name and password of the task"),
        (faults.status(403), Denied, "does not allow this login to pull"),
    ],
    ids=["401", "403"],
)
def test_a_login_of_the_task_is_never_dropped(
    answer: Fault,
    kind: type[RegistryError],
    said: str,
    faulty: FaultyRegistry,
    token_server: FaultyRegistry,
    connect: Connect,
) -> None:
    bearer(faulty, token_server, {"Bearer granted"})
    token_server.when("/token", answer, times=1)
    token_server.when("/token", GRANTED)
    session = connect(faulty.address, ("ann", "s3cret"))
    assert said in refused(session, image(faulty), kind)
    assert len(token_server.requests) == 1
    assert session.warnings("team/tiny") == []


# Denied or unauthorized


SCOPE = ',error="insufficient_scope"'


@pytest.mark.parametrize(
    ("login", "more", "answer", "kind", "said"),
    [
        (ANN, SCOPE, None, Denied, "does not allow this login to pull"),
        (ANN, "", faults.status(401, word="DENIED"), Denied, "does not allow this login to pull"),
        (ANN, "", faults.status(403), Denied, "does not allow this login to pull"),
        (ANN, ',error="invalid_token"', None, Unauthorized, "did not accept the login of the authfile"),
        (None, SCOPE, None, Unauthorized, "wants a login for"),
        (None, "", faults.status(403), Denied, "does not allow anonymous users to pull"),
    ],
    ids=["insufficient scope", "DENIED", "403", "invalid token", "anonymous", "anonymous 403"],
)
def test_a_login_without_rights_is_told_from_one_that_is_not_accepted(
    login: dict[str, str] | None,
    more: str,
    answer: Fault | None,
    kind: type[RegistryError],
    said: str,
    faulty: FaultyRegistry,
    token_server: FaultyRegistry,
    enter: Enter,
) -> None:
    token_server.when("/token", GRANTED)
    if answer:
        bearer_then = faults.challenged(f'Bearer realm="{token_server.url}/token"', {"Bearer granted"})
        faulty.when("/v2/", faults.together(bearer_then, answer))
    else:
        bearer(faulty, token_server, set(), more)
    message = refused(enter(login), image(faulty), kind)
    assert said in message
    assert str(image(faulty)) in message
    assert message.startswith(f"{kind.__name__.lower()}: ")


def test_why_there_is_no_login_is_said(faulty: FaultyRegistry, connect: Connect, tmp_path: Path) -> None:
    faulty.when("", faults.challenged("Basic realm=x", set()))
    (tmp_path / "config.json").write_text('{"credsStore": "desktop"}')
    keychain = Keychain(authfile=str(tmp_path / "config.json"))
    message = refused(connect(faulty.address, keychain=keychain), image(faulty))
    assert "tried as anonymous, for docker-credential-desktop is not installed on this host" in message
    assert f"config.json has no login for {faulty.address}" in message


def test_a_server_that_repeats_the_login_does_not_get_it_shown(faulty: FaultyRegistry, connect: Connect) -> None:
    told = faults.status(403, word="NO", message=f"{BASIC} is ann:s3cret")
    faulty.when("", faults.together(faults.challenged("Basic realm=x", {BASIC}), told))
    message = refused(connect(faulty.address, ("ann", "s3cret")), image(faulty), Denied)
    assert "NO Basic ******** is ann:********" in message


@pytest.mark.parametrize("before", range(285, 300))
def test_of_a_repeated_login_no_part_is_shown_where_a_long_message_is_cut(
    before: int, faulty: FaultyRegistry, connect: Connect
) -> None:
    told = faults.status(403, message=f"{'-' * before}s3cret and more")
    faulty.when("", faults.together(faults.challenged("Basic realm=x", {BASIC}), told))
    assert "s3" not in refused(connect(faulty.address, ("ann", "s3cret")), image(faulty), Denied)


# The keychain is left alone


def test_nobody_is_asked_for_a_login_that_is_not_wanted(
    faulty: FaultyRegistry, connect: Connect, tmp_path: Path
) -> None:
    session = connect(faulty.address, keychain=Keychain(authfile=str(tmp_path / "absent")))
    session.get(image(faulty))
    assert session.warnings("team/tiny") == []
    registries = Registries(Keychain(Login("ann", "s3cret")), Transport())
    assert registries.warnings(image(faulty)) == []
