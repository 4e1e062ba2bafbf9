# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Logins of repositories, and where they come from."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import CredentialsError
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.text import shown
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.transport import credential_helper
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.transport.keychain import (
    Credentials,
    Keychain,
    Login,
)

Authfile = Callable[[Any], str]
Install = Callable[[str, str], str]

HUB = "https://index.docker.io/v1/"


@pytest.fixture
def authfile(tmp_path: Path) -> Authfile:
    """Write an authfile, of an object or of raw bytes, and return its path."""

    def write(content: Any) -> str:
        path = tmp_path / "config.json"
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return str(path)

    return write


@pytest.fixture
def helper(install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Install ``docker-credential-NAME``, which writes down what it is asked; return where."""
    monkeypatch.setattr(credential_helper, "_DIRECTORIES", ())

    def write(name: str, body: str = "", **logins: tuple[str, str]) -> Path:
        log = tmp_path / f"asked-{name}"
        cases = "".join(
            f"*{word}*) echo '{json.dumps({'ServerURL': '', 'Username': user, 'Secret': secret})}';; "
            for word, (user, secret) in logins.items()
        )
        # shell built-ins only: there is nothing else on the PATH
        script = f'IFS= read -r address; echo "$1 $address" >>{log}; {body}\n'
        script += f'case "$address" in {cases} *) echo "credentials not found in native keychain"; exit 1;; esac'
        install(f"docker-credential-{name}", script)
        return log

    return write


def auth(text: str) -> dict[str, str]:
    """Return an entry of ``auths`` as ``docker login`` writes it."""
    return {"auth": base64.b64encode(text.encode()).decode()}


def login(path: str, registry: str = "quay.io", repository: str = "") -> Login | None:
    """Return the login that an authfile has for a repository."""
    return Keychain(authfile=path).credentials(registry, repository).login


# Without a file


def test_without_a_login_every_registry_is_asked_anonymously() -> None:
    assert Keychain().credentials("quay.io") == Credentials(lacking="no login and no authfile is given")


def test_the_given_login_is_used_for_every_registry_and_wins_over_the_authfile() -> None:
    keychain = Keychain(Login("ann", "given"), authfile="/nonexistent/config.json")
    answer = keychain.credentials("quay.io")
    assert answer == keychain.credentials("docker.io", "team/app")
    assert answer == Credentials(Login("ann", "given"), "the user name and password of the task", given=True)


def test_nothing_of_a_login_shows_in_a_representation() -> None:
    login = Login("ann", "secret", "refresh", "bearer")
    assert repr(login) == "Login()"
    assert "secret" not in repr(Keychain(login)) + repr(Credentials(login))
    for secret in ("secret", "YW5uOnNlY3JldA==", "refresh", "bearer"):
        assert shown(f"a {secret} b") == "a ******** b"


# Keys of auths


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
        ("quay.io", "https://quay.io/api/docker/team"),
        ("quay.io", "quay.io/v1/"),
        ("quay.io", "quay.io/"),
        ("[::1]:5000", "https://[::1]:5000/v1/"),
        ("docker.io", HUB),
        ("docker.io", "https://index.docker.io/v1"),
        ("docker.io", "https://docker.io"),
        ("docker.io", "index.docker.io"),
        ("docker.io", "index.docker.io/v1/"),
        ("docker.io", "docker.io"),
        ("docker.io", "registry-1.docker.io"),
        ("docker.io", "docker.io/team"),
        ("quay.io", "quay.io/team"),
        ("quay.io", "quay.io/team/app"),
        ("host:5000", "host:5000/team/app"),
    ],
)
def test_a_repository_is_found_by_each_key_that_tools_write_for_it(registry: str, key: str, authfile: Authfile) -> None:
    path = authfile({"auths": {"other.example": auth("x:y"), key: auth("ann:secret")}})
    answer = Keychain(authfile=path).credentials(registry, "team/app")
    assert answer == Credentials(Login("ann", "secret"), f"the login of the authfile {path}, key {key!r}")


@pytest.mark.parametrize(
    ("registry", "key"),
    [
        ("quay.io", "myquay.io"),
        ("quay.io", "quay.io:443"),
        ("quay.io", "quay.io.evil.example"),
        ("quay.io", "https://evil.example/quay.io"),
        ("quay.io", "https://quay.io@evil.example/"),
        ("quay.io", "ftp://quay.io/"),
        ("quay.io", "https://[quay.io"),
        ("quay.io", "quay.io/team/other"),
        ("quay.io", "quay.io/team/app/more"),
        ("quay.io", "quay.io/tea"),
        ("quay.io", "quay.io/app"),
        ("host:5000", "host"),
        ("host", "host:5000"),
        ("quay.io", HUB),
        ("docker.io", "quay.io"),
    ],
)
def test_a_login_does_not_go_to_another_repository(registry: str, key: str, authfile: Authfile) -> None:
    path = authfile({"auths": {key: auth("ann:secret")}})
    answer = Keychain(authfile=path).credentials(registry, "team/app")
    assert answer == Credentials(lacking=f"the authfile {path} has no login for {registry}")


@pytest.mark.parametrize(
    ("registry", "keys"),
    [
        ("quay.io", ["quay.io/team/app", "quay.io/team", "quay.io", "https://quay.io/v1/", "http://quay.io"]),
        ("quay.io", ["https://quay.io/v1/", "http://quay.io/v1/", "quay.io/v1/"]),
        ("docker.io", ["docker.io/team/app", "docker.io/team", HUB, "index.docker.io", "docker.io"]),
    ],
)
def test_the_closest_key_wins_wherever_it_stands(registry: str, keys: list[str], authfile: Authfile) -> None:
    while keys:
        path = authfile({"auths": {key: auth(f"{key[:4]}:{key}") for key in reversed(keys)}})
        found = login(path, registry, "team/app")
        assert found
        assert found.password == keys.pop(0)


# Entries of auths


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (auth("ann:secret"), Login("ann", "secret")),
        (auth("ann:se:cr:et"), Login("ann", "se:cr:et")),
        (auth("änn:grüße"), Login("änn", "grüße")),
        (auth("ann:"), Login("ann", "")),
        (auth("ann:secret\0\0"), Login("ann", "secret")),
        ({"username": "ann", "password": "secret"}, Login("ann", "secret")),
        ({"username": "old", "password": "old", **auth("ann:secret")}, Login("ann", "secret")),
        ({"username": "ann", "password": "secret", "auth": ""}, Login("ann", "secret")),
        ({"auth": base64.encodebytes(b"ann:" + 100 * b"secret").decode()}, Login("ann", 100 * "secret")),
        ({"auth": "YW5u\r\nOnNl\r\n Y3JldA==\n"}, Login("ann", "secret")),
        ({"auth": base64.b64encode(b"ann:\xff\xfe").decode()}, Login("ann", "\udcff\udcfe")),
        ({"username": "ann", **auth("bob:secret")}, Login("bob", "secret")),
        ({**auth("ann:"), "identitytoken": "refresh"}, Login("ann", "", "refresh")),
        ({**auth("0000-0000:"), "identitytoken": "refresh"}, Login("0000-0000", "", "refresh")),
        ({**auth("ann:secret"), "identitytoken": "refresh"}, Login("ann", "secret", "refresh")),
        ({"identitytoken": "refresh"}, Login(identity_token="refresh")),
        ({"registrytoken": "bearer"}, Login(registry_token="bearer")),
        ({**auth("ann:secret"), "identitytoken": "", "registrytoken": None}, Login("ann", "secret")),
        ({}, None),
        ({"auth": ""}, None),
        ({"auth": None, "email": "ann@example.org"}, None),
        ({"username": None, "password": None, "auth": None, "identitytoken": ""}, None),
        (None, None),
    ],
)
def test_an_entry_is_decoded(entry: dict[str, str] | None, expected: Login | None, authfile: Authfile) -> None:
    assert login(authfile({"auths": {"quay.io": entry}})) == expected


def test_an_empty_entry_gives_way_to_the_next_key(authfile: Authfile) -> None:
    path = authfile({"auths": {"quay.io/team": {}, "quay.io": auth("ann:secret")}})
    assert login(path, "quay.io", "team/app") == Login("ann", "secret")


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"auths": {}},
        {"auths": None},
        {"auths": None, "credHelpers": None, "credsStore": None},
        {"auths": {"quay.io": None}, "credHelpers": {"quay.io": None}},
        {"credHelpers": None, "credsStore": "", "HttpHeaders": {}},
        b"",
        b" \n",
        b"null",
    ],
)
def test_an_authfile_without_logins_means_anonymous(document: Any, authfile: Authfile) -> None:
    assert login(authfile(document)) is None


@pytest.mark.parametrize(
    ("before", "after"),
    [(b"\xef\xbb\xbf", b""), (b"\n", b"\n\0\0\0"), (b"", b"{}"), (b"", b"\xff"), (b'{"x": "\xff", "auths"', b"")],
    ids=["byte order mark", "trailing NULs", "a second value", "trailing bytes", "no UTF-8"],
)
def test_what_stands_around_the_logins_does_not_count(before: bytes, after: bytes, authfile: Authfile) -> None:
    content = json.dumps({"auths": {"quay.io": auth("ann:secret")}}).encode()
    content = content.replace(b'{"auths"', before, 1) if b"auths" in before else before + content
    assert login(authfile(content + after)) == Login("ann", "secret")


def test_a_password_that_is_no_text_goes_to_the_registry_as_it_is(authfile: Authfile) -> None:
    encoded = base64.b64encode(b"ann:\xff\xfe").decode()
    found = login(authfile({"auths": {"quay.io": {"auth": encoded}}}))
    assert found
    assert found.basic == f"Basic {encoded}"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"{", "is not JSON; write it with docker login, podman login or apptainer registry login"),
        (b"\0{}", "is not JSON"),
        (b"\xff\xfe{}", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[]", "has no object 'auths'"),
        ({"auths": []}, "has no object 'auths'"),
        (b"7", "has no object 'auths'"),
        ({"auths": "ann:secret"}, "has no object 'auths'"),
        ({"auths": {"quay.io": auth(":secret")}}, "has no base64 of USER:PASSWORD at auths['quay.io'].auth"),
        ({"credHelpers": ["x"]}, "has no object 'credHelpers'"),
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
        login(path)
    assert str(error.value).startswith(f"the authfile {path} {why}")
    assert "secret" not in str(error.value)


def test_a_missing_authfile_is_named(tmp_path: Path) -> None:
    path = tmp_path / "none.json"
    with pytest.raises(CredentialsError) as error:
        login(str(path))
    assert str(error.value) == f"cannot read the authfile {path}: No such file or directory"


def test_the_authfile_is_read_when_first_needed_and_only_once(authfile: Authfile, tmp_path: Path) -> None:
    keychain = Keychain(authfile=str(tmp_path / "config.json"))
    path = authfile({"auths": {"quay.io": auth("ann:secret")}})
    assert keychain.credentials("quay.io").login == Login("ann", "secret")
    Path(path).unlink()
    assert keychain.credentials("quay.io").login == Login("ann", "secret")
    assert keychain.credentials("ghcr.io").login is None


# Credential helpers


def test_a_helper_is_asked_for_the_address_that_docker_knows_a_registry_by(
    authfile: Authfile, helper: Callable[..., Path]
) -> None:
    log = helper("pass", quay=("ann", "secret"), index=("bob", "other"), host=("<token>", "refresh"))
    path = authfile({"credsStore": "pass", "auths": {"quay.io": {}, HUB: {}}})
    keychain = Keychain(authfile=path)
    answer = keychain.credentials("quay.io", "team/app")
    source = f"the login that docker-credential-pass gave (authfile {path})"
    assert answer == Credentials(Login("ann", "secret"), source)
    assert keychain.credentials("docker.io").login == Login("bob", "other")
    assert keychain.credentials("host:5000").login == Login(identity_token="refresh"), "that is what <token> means"
    assert keychain.credentials("quay.io", "team/other") == answer
    assert log.read_text().splitlines() == ["get quay.io", f"get {HUB}", "get host:5000"], "each once"


@pytest.mark.parametrize("key", [HUB, "docker.io", "index.docker.io"])
def test_a_helper_for_docker_hub_is_asked_for_the_key_that_names_it(
    key: str, authfile: Authfile, helper: Callable[..., Path]
) -> None:
    log = helper("hub", docker=("ann", "secret"))
    assert login(authfile({"credHelpers": {key: "hub"}}), "docker.io") == Login("ann", "secret")
    assert log.read_text() == f"get {key}\n"


ENTRY = {"auths": {"quay.io": auth("ann:auths")}}
PRECEDENCE = {
    "helper before store and auths": (
        {**ENTRY, "credHelpers": {"quay.io": "one"}, "credsStore": "two"},
        Login("one", "quay.io"),
    ),
    "store before auths": ({**ENTRY, "credsStore": "two"}, Login("two", "quay.io")),
    "auths where the store has none": ({**ENTRY, "credsStore": "none"}, Login("ann", "auths")),
    "auths where the store is missing": ({**ENTRY, "credsStore": "desktop"}, Login("ann", "auths")),
    "auths where the store fails": ({**ENTRY, "credsStore": "broken"}, Login("ann", "auths")),
    "nothing besides a helper": ({**ENTRY, "credHelpers": {"quay.io": "none"}, "credsStore": "two"}, None),
    "another registry's helper": ({**ENTRY, "credHelpers": {"ghcr.io": "one"}}, Login("ann", "auths")),
    "a helper is for a registry only": ({**ENTRY, "credHelpers": {"quay.io/team": "one"}}, Login("ann", "auths")),
    "no helper for one registry": (
        {**ENTRY, "credHelpers": {"quay.io": ""}, "credsStore": "two"},
        Login("ann", "auths"),
    ),
}


@pytest.mark.parametrize(("document", "expected"), PRECEDENCE.values(), ids=PRECEDENCE.keys())
def test_what_wins_in_an_authfile(
    document: dict[str, Any], expected: Login | None, authfile: Authfile, helper: Callable[..., Path]
) -> None:
    helper("one", quay=("one", "quay.io"))
    helper("two", quay=("two", "quay.io"))
    helper("none")
    helper("broken", body="exit 3")
    assert login(authfile(document), "quay.io", "team/app") == expected


@pytest.mark.parametrize(
    ("name", "body", "why"),
    [
        ("absent", None, "docker-credential-absent is not installed on this host"),
        ("x", "echo secret; exit 2", "docker-credential-x failed with status 2"),
        (
            "x",
            'echo "credentials not found in native keychain"; exit 1',
            "docker-credential-x has no login for quay.io",
        ),
        ("x", 'echo \'{"Username": "", "Secret": ""}\'; exit 0', "docker-credential-x has no login for quay.io"),
        ("x", "echo secret; exit 0", "docker-credential-x gave no JSON with Username and Secret"),
        ("x", "echo '[]'; exit 0", "docker-credential-x gave no JSON"),
        ("x", 'echo \'{"Username": 1, "Secret": "secret"}\'; exit 0', "docker-credential-x gave no JSON"),
        ("../evil", None, "'../evil' is not a name of a credential helper"),
        ("/bin/sh", None, "'/bin/sh' is not a name of a credential helper"),
        ("a b", None, "'a b' is not a name of a credential helper"),
        ("-x", None, "'-x' is not a name of a credential helper"),
        ("x\n", None, "is not a name of a credential helper"),
        (7, None, "docker-credential-7 is not installed on this host"),
    ],
)
@pytest.mark.parametrize("how", ["credHelpers", "credsStore"])
def test_a_helper_without_a_login_blocks_nothing_and_says_why(
    how: str, name: Any, body: str | None, why: str, authfile: Authfile, helper: Callable[..., Path]
) -> None:
    if body:
        helper(name, body)
    path = authfile({how: {"quay.io": name} if how == "credHelpers" else name})
    answer = Keychain(authfile=path).credentials("quay.io")
    assert answer.login is None
    assert why in answer.lacking
    assert path in answer.lacking
    assert "secret" not in answer.lacking


def test_a_helper_that_cannot_be_run_blocks_nothing(authfile: Authfile, install: Install) -> None:
    path = Path(install("docker-credential-x", ""))
    path.write_text("#!/nonexistent\n")
    answer = Keychain(authfile=authfile({"credsStore": "x"})).credentials("quay.io")
    assert "docker-credential-x cannot be run: No such file or directory" in answer.lacking


@pytest.mark.parametrize("body", ["/bin/sleep 600", "/bin/sleep 600 & exit 0"], ids=["hangs", "leaves a child behind"])
def test_a_slow_helper_is_ended_with_all_that_it_started(
    body: str, authfile: Authfile, helper: Callable[..., Path]
) -> None:
    helper("slow", body)
    keychain = Keychain(authfile=authfile({"credsStore": "slow"}), helper_timeout=0.2)
    begin = time.monotonic()
    answer = keychain.credentials("quay.io")
    assert "docker-credential-slow did not answer within 0.2 s" in answer.lacking
    assert keychain.credentials("quay.io") == answer, "and is not asked again"
    assert time.monotonic() - begin < 60


def test_the_secret_is_not_in_the_arguments_of_a_helper(authfile: Authfile, install: Install, tmp_path: Path) -> None:
    install("docker-credential-x", f'echo "$0 $*" >{tmp_path}/arguments')
    login(authfile({"credsStore": "x", "auths": {"quay.io": auth("ann:secret")}}))
    assert (tmp_path / "arguments").read_text().split()[1:] == ["get"]
