# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which login belongs to which registry."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils.credentials import Keychain, Login
from ansible_collections.hpc.sregistry.plugins.module_utils.errors import CredentialsError

Authfile = Callable[[Any], str]


@pytest.fixture
def authfile(tmp_path: Path) -> Authfile:
    """Writes an authfile, of an object or of raw bytes, and returns its path."""

    def write(content: Any) -> str:
        path = tmp_path / "config.json"
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return str(path)

    return write


def auth(text: str) -> dict[str, str]:
    """An entry of ``auths`` as ``docker login`` writes it."""
    return {"auth": base64.b64encode(text.encode()).decode()}


def test_without_a_login_every_registry_is_asked_anonymously() -> None:
    assert Keychain().login("quay.io") is None
    assert Keychain().source == "no login"


def test_the_given_login_is_used_for_every_registry_and_wins_over_the_authfile() -> None:
    keychain = Keychain(Login("ann", "given"), authfile="/nonexistent/config.json")
    assert keychain.login("quay.io") == keychain.login("docker.io") == Login("ann", "given")
    assert keychain.source == "the given user name and password"


def test_neither_name_nor_password_shows_in_a_representation() -> None:
    assert repr(Login("ann", "secret")) == "Login()"
    assert "secret" not in repr(Keychain(Login("ann", "secret")))


@pytest.mark.parametrize(
    ("registry", "key"),
    [
        ("quay.io", "quay.io"),
        ("host:5000", "host:5000"),
        ("host:5000", "http://host:5000"),
        ("host:5000", "https://host:5000/"),
        ("quay.io", "https://quay.io"),
        ("quay.io", "https://quay.io/v2/"),
        ("quay.io", "https://quay.io/v1/"),
        ("docker.io", "https://index.docker.io/v1/"),
        ("docker.io", "https://index.docker.io/v1"),
        ("docker.io", "index.docker.io"),
        ("docker.io", "docker.io"),
        ("docker.io", "registry-1.docker.io"),
    ],
)
def test_a_registry_is_found_by_each_key_that_tools_write_for_it(registry: str, key: str, authfile: Authfile) -> None:
    path = authfile({"auths": {"other.example": auth("x:y"), key: auth("ann:secret")}})
    assert Keychain(authfile=path).login(registry) == Login("ann", "secret")
    assert Keychain(authfile=path).source == f"the authfile {path}"


@pytest.mark.parametrize(
    ("registry", "key"),
    [
        ("quay.io", "myquay.io"),
        ("quay.io", "quay.io:443"),
        ("quay.io", "quay.io.evil.example"),
        ("host:5000", "host"),
        ("host", "host:5000"),
        ("quay.io", "https://index.docker.io/v1/"),
        ("docker.io", "quay.io"),
    ],
)
def test_a_login_does_not_go_to_another_registry(registry: str, key: str, authfile: Authfile) -> None:
    assert Keychain(authfile=authfile({"auths": {key: auth("ann:secret")}})).login(registry) is None


@pytest.mark.parametrize(
    ("entry", "login"),
    [
        (auth("ann:secret"), Login("ann", "secret")),
        (auth("ann:se:cr:et"), Login("ann", "se:cr:et")),
        (auth("änn:grüße"), Login("änn", "grüße")),
        (auth("ann:"), Login("ann", "")),
        ({"username": "ann", "password": "secret"}, Login("ann", "secret")),
        ({"username": "ann", "password": "secret", **auth("old:old")}, Login("ann", "secret")),
        ({"username": "ann", **auth("bob:secret")}, Login("bob", "secret")),
        ({}, None),
        ({"auth": ""}, None),
    ],
)
def test_an_entry_is_decoded(entry: dict[str, str], login: Login | None, authfile: Authfile) -> None:
    assert Keychain(authfile=authfile({"auths": {"quay.io": entry}})).login("quay.io") == login


@pytest.mark.parametrize("document", [{}, {"auths": {}}, {"credsStore": "desktop", "HttpHeaders": {}}])
def test_an_authfile_without_logins_means_anonymous(document: dict[str, Any], authfile: Authfile) -> None:
    assert Keychain(authfile=authfile(document)).login("quay.io") is None


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"{", "is not JSON; write it with docker login, podman login or apptainer registry login"),
        (b"", "is not JSON"),
        (b"\xff\xfe{}", "is not JSON"),
        (b"[]", "has no object 'auths'"),
        ({"auths": []}, "has no object 'auths'"),
        ({"auths": None}, "has no object 'auths'"),
        ({"auths": {"quay.io": "ann:secret"}}, "has no object at auths['quay.io']"),
        ({"auths": {"quay.io": {"auth": "ann:secret"}}}, "has no base64 of USER:PASSWORD at auths['quay.io'].auth"),
        ({"auths": {"quay.io": {"auth": "!YW5uOnNlY3JldA=="}}}, "has no base64 of USER:PASSWORD"),
        ({"auths": {"quay.io": {"auth": "änn"}}}, "has no base64 of USER:PASSWORD at auths['quay.io'].auth"),
        ({"auths": {"quay.io": {"auth": "YW5u"}}}, "has no base64 of USER:PASSWORD at auths['quay.io'].auth"),
        ({"auths": {"quay.io": {"auth": "/w=="}}}, "has no base64 of USER:PASSWORD at auths['quay.io'].auth"),
        ({"auths": {"quay.io": {"auth": 7}}}, "has no base64 of USER:PASSWORD at auths['quay.io'].auth"),
    ],
)
def test_a_malformed_authfile_is_named_without_its_secrets(content: Any, why: str, authfile: Authfile) -> None:
    path = authfile(content)
    with pytest.raises(CredentialsError) as error:
        Keychain(authfile=path).login("quay.io")
    assert str(error.value).startswith(f"the authfile {path} {why}")
    assert "secret" not in str(error.value)


def test_a_missing_authfile_is_named(tmp_path: Path) -> None:
    path = tmp_path / "none.json"
    with pytest.raises(CredentialsError) as error:
        Keychain(authfile=str(path)).login("quay.io")
    assert str(error.value) == f"cannot read the authfile {path}: No such file or directory"


def test_the_authfile_is_read_when_first_needed_and_only_once(authfile: Authfile, tmp_path: Path) -> None:
    keychain = Keychain(authfile=str(tmp_path / "config.json"))
    path = authfile({"auths": {"quay.io": auth("ann:secret")}})
    assert keychain.login("quay.io") == Login("ann", "secret")
    Path(path).unlink()
    assert keychain.login("quay.io") == Login("ann", "secret")
    assert keychain.login("ghcr.io") is None


def test_an_authfile_that_nests_without_end_is_reported(tmp_path: Path) -> None:
    authfile = tmp_path / "config.json"
    authfile.write_text("[" * 100_000, encoding="utf-8")
    with pytest.raises(CredentialsError, match=f"the authfile {authfile} is not JSON"):
        Keychain(authfile=str(authfile)).login("quay.io")
