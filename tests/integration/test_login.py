# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Logins to real registries, good and bad ones, from wherever they can come; and that none of them is ever seen."""

from __future__ import annotations

import base64
import functools
import json
import os
import pty
import re
import select
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.reference import Reference
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.registry.client import Registry
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.transport.keychain import Keychain
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.transport.options import Transport

from tests import lab as laboratory
from tests.faults import FaultyRegistry, faults
from tests.integration.conftest import LAB, REGISTRY, Host

PRIVATE, TOKEN, TOKEN_SERVER = "127.0.0.1:5001", "127.0.0.1:5002", "127.0.0.1:5003"
CA = "/etc/ssl/lab-ca.pem"
GIVEN = "/tmp/login-given"  # what the tests give: the only place on a host where a login may be
WORK = "/tmp/login-work"
ROOT = Path(__file__).resolve().parents[2]


def encoded(user: str, password: str) -> str:
    """Encode a login as ``docker login`` does."""
    return base64.b64encode(f"{user}:{password}".encode()).decode()


PASSWORDS = {"lab": "lab-secret", "guest": "guest-secret", "former": "former-secret", "nobody": "wrong-secret"}
IDENTITY = "lab-identity-token"
EXPIRED = "former-identity-token"
BEARER = "eyJ0eXAiOiAiSldUIi"  # how each token of the lab begins
SECRETS = (
    *PASSWORDS.values(),
    *(encoded(user, password) for user, password in PASSWORDS.items()),
    IDENTITY,
    EXPIRED,
    BEARER,
)

LAB_ENTRY = {"auth": encoded("lab", PASSWORDS["lab"])}
AUTHFILES: Mapping[str, Mapping[str, Any]] = {
    "auth.json": {"auths": {PRIVATE: LAB_ENTRY, f"https://{TOKEN}/v1/": LAB_ENTRY}},
    "identity.json": {"auths": {TOKEN: {"auth": encoded("lab", ""), "identitytoken": IDENTITY}}},
    "expired.json": {"auths": {TOKEN: {"identitytoken": EXPIRED}}},
    "former.json": {"auths": {TOKEN: {"auth": encoded("former", PASSWORDS["former"])}}},
    "wrong.json": {"auths": {PRIVATE: {"auth": encoded("nobody", PASSWORDS["nobody"])}}},
    "namespace.json": {"auths": {TOKEN: {"auth": encoded("guest", PASSWORDS["guest"])}, f"{TOKEN}/secret": LAB_ENTRY}},
    "helpers.json": {"auths": {TOKEN: {}}, "credHelpers": {PRIVATE: "lab", TOKEN: "lab"}},
    "leaky.json": {"credsStore": "leaky"},
    "absent.json": {"credsStore": "desktop"},
}
HELPERS = {
    "lab": f"""
        case "$address" in
          {PRIVATE}) echo '{{"ServerURL": "", "Username": "lab", "Secret": "{PASSWORDS["lab"]}"}}';;
          {TOKEN}) echo '{{"ServerURL": "", "Username": "<token>", "Secret": "{IDENTITY}"}}';;
        esac""",
    "leaky": f"echo '{PASSWORDS['lab']}'; echo '{IDENTITY}' >&2; exit 1",
}


@dataclass(frozen=True)
class Case:
    """One task: what it asks for, and how it ends: an action, or the parts of a message; the parts of a warning."""

    image: str
    action: str = "record"
    options: Mapping[str, str] = field(default_factory=dict)
    ends: str | tuple[str, ...] = "recorded"
    warns: tuple[str, ...] = ()

    def task(self, number: int, other: str) -> dict[str, Any]:
        """Return the task of a play; each has its own store. ``other`` is the registry that has no login."""
        options = {
            key: f"{GIVEN}/{self.options[key]}" if key == "authfile" else value for key, value in self.options.items()
        }
        arguments = {
            "name": self.image.replace("OTHER", other),
            "ca_path": CA,
            "storage": f"{WORK}/store/{number}",
            "cachedir": f"{WORK}/cache",
            "tmpdir": f"{WORK}/tmp",
            "retries": 0,
            **options,
        }
        return {
            f"hpc.sregistry.sregistry_{self.action}": arguments,
            "register": f"result_{number}",
            "ignore_errors": True,
        }


def given(name: str) -> dict[str, str]:
    """Return user name and password as options."""
    return {"username": name, "password": PASSWORDS[name]}


def file(name: str) -> dict[str, str]:
    """Return an authfile as an option."""
    return {"authfile": f"{name}.json"}


CASES = {
    "private, options": Case(f"{PRIVATE}/secret/tiny", "pull", given("lab"), "pulled"),
    "private, authfile": Case(f"{PRIVATE}/secret/tiny", "record", file("auth")),
    "private, helper": Case(f"{PRIVATE}/secret/tiny", "record", file("helpers")),
    "private, none": Case(
        f"{PRIVATE}/lab/tiny",
        ends=(
            "unauthorized: ",
            "wants a login",
            "status 401",
            "no login and no authfile",
            "give username and password",
        ),
    ),
    "private, wrong options": Case(
        f"{PRIVATE}/lab/tiny",
        options=given("nobody"),
        ends=("did not accept the user name and password of the task", "status 401", "check user name and password"),
    ),
    "private, wrong authfile": Case(
        f"{PRIVATE}/lab/tiny",
        options=file("wrong"),
        ends=(f"did not accept the login of the authfile {GIVEN}/wrong.json, key '{PRIVATE}'", "log in again"),
    ),
    "private, a helper that fails": Case(
        f"{PRIVATE}/lab/tiny",
        options=file("leaky"),
        ends=(
            "wants a login",
            "docker-credential-leaky failed with status 1",
            f"leaky.json has no login for {PRIVATE}",
        ),
    ),
    "token, none": Case(f"{TOKEN}/secret/tiny", ends=("unauthorized: ", "wants a login", "authentication required")),
    "token, anonymous": Case(f"{TOKEN}/lab/tiny:1.0"),
    "token, options": Case(f"{TOKEN}/secret/tiny", "record", given("lab")),
    "token, authfile": Case(f"{TOKEN}/secret/tiny", "record", file("auth")),
    "token, identity token": Case(f"{TOKEN}/secret/tiny", "pull", file("identity"), "pulled"),
    "token, identity token of a helper": Case(f"{TOKEN}/secret/tiny", "record", file("helpers")),
    "token, the key of a namespace": Case(f"{TOKEN}/secret/tiny", "record", file("namespace")),
    "token, public, a helper that is missing": Case(f"{TOKEN}/lab/tiny:1.0", "record", file("absent")),
    "token, public, an expired identity token": Case(
        f"{TOKEN}/lab/tiny:1.0",
        options=file("expired"),
        warns=(
            f"did not accept the login of the authfile {GIVEN}/expired.json",
            "refresh token has expired",
            "anonymous",
        ),
    ),
    "token, private, an expired identity token": Case(
        f"{TOKEN}/secret/tiny",
        options=file("expired"),
        ends=("unauthorized: ", "the refresh token has expired", "anonymous users", "log in again"),
    ),
    "token, private, an expired login": Case(
        f"{TOKEN}/secret/tiny",
        options=file("former"),
        ends=("unauthorized: ", "the login has expired", "anonymous users", "log in again"),
    ),
    "token, wrong options": Case(
        f"{TOKEN}/lab/tiny:1.0",  # public, but a login of the task is never dropped
        options=given("nobody"),
        ends=("did not accept the user name and password of the task", "incorrect username or password"),
    ),
    "token, no right": Case(
        f"{TOKEN}/secret/tiny",
        options=given("guest"),
        ends=("denied: ", "does not allow this login to pull", "of the task", "ask its owner"),
    ),
    "another host": Case(
        "OTHER/lab/tiny:1.0", options=file("auth"), ends=("wants a login", f"{GIVEN}/auth.json has no login for")
    ),
}
IN_SHORT = (
    "private, options",
    "private, wrong options",
    "private, a helper that fails",
    "token, identity token",
    "token, identity token of a helper",
    "token, private, an expired login",
    "another host",
)
"""The cases of an ordinary user: each kind of login, and of failure."""


# Watching

WATCH = f"""
import os, socket, sys, time
seen, log = set(), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
log.bind("/dev/log")
log.setblocking(False)
print("watching", flush=True)
while not os.path.exists("{WORK}/stop"):
    for pid in filter(str.isdigit, os.listdir("/proc")):
        for name in ("cmdline", "environ"):
            try:
                with open(f"/proc/{{pid}}/{{name}}", "rb") as stream:
                    seen.add(stream.read())
            except OSError:
                pass
    try:
        seen.add(log.recv(65536))
    except BlockingIOError:
        time.sleep(0.005)
os.unlink("/dev/log")
sys.stdout.buffer.write(b"\\n".join(seen))
"""


class Watch:
    """While a ``with`` block lasts, all arguments and environments of processes on a host, and its system log."""

    def __init__(self, host: Host) -> None:
        self._host = host.as_user("root")
        self.seen = ""

    def __enter__(self) -> Watch:
        self._host.shell(f"rm -f {WORK}/stop /dev/log")
        command = [*self._host._ssh(), "python3 -"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(WATCH.encode())
        self._process.stdin.close()
        assert self._process.stdout.readline() == b"watching\n"
        return self

    def __exit__(self, *_exception: object) -> None:
        self._host.shell(f"touch {WORK}/stop")
        assert self._process.stdout
        with self._process:
            self.seen = self._process.stdout.read().decode(errors="replace")
        self._host.shell(f"rm -f {WORK}/stop")


def write(host: Host, files: Mapping[str, str]) -> None:
    """Write files on a host, for its user alone, without their content on any command line."""
    script = (
        "import json, os, sys\nos.umask(0o077)\nfor path, text in json.load(sys.stdin).items():\n"
        " os.makedirs(os.path.dirname(path), exist_ok=True)\n open(path, 'w').write(text)\n os.chmod(path, 0o700)"
    )
    subprocess.run([*host._ssh(), f'python3 -c "{script}"'], input=json.dumps(files), text=True, check=True)


def files_with(host: Host, secrets: Sequence[str]) -> list[str]:
    """List the files of a host that hold one of the secrets, except those that the tests gave."""
    places = "/root /home /tmp /var/tmp /var/log /run /dev/shm"
    script = f"grep -rlaF -f - --devices=skip --exclude-dir={os.path.basename(GIVEN)} {places}; test $? -lt 2"
    script = f"({script}) 2>/dev/null || true"  # what goes away meanwhile is no matter
    command = [*host.as_user("root")._ssh(), script]
    done = subprocess.run(command, input="\n".join(secrets), capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


class LabLogs:
    """The log lines of the lab's servers from now on."""

    def __init__(self) -> None:
        self._sizes = {path: path.stat().st_size for path in self._paths()}

    @staticmethod
    def _paths() -> list[Path]:
        return sorted(path for path in (LAB / "logs").iterdir() if path.name.startswith(("registry-", "tokens")))

    def new(self) -> dict[str, str]:
        """Return the new text of each log."""
        texts = {}
        for path in self._paths():
            with path.open("rb") as stream:
                stream.seek(self._sizes.get(path, 0))
                texts[f"the log {path.name}"] = stream.read().decode(errors="replace")
        return texts


def leaks(texts: Mapping[str, str], secrets: Sequence[str] = SECRETS) -> list[str]:
    """List the places where each secret is."""
    return [f"{secret} in {where}" for where, text in texts.items() for secret in secrets if secret in text]


# All cases in one play, as root with pipelining and as an ordinary user without


@dataclass
class Run:
    """The results of the cases, and all that was written or seen meanwhile."""

    results: dict[str, dict[str, Any]]
    texts: dict[str, str]
    files: list[str]
    others: list[str]
    """The Authorization headers that another host was sent."""


def prepare(host: Host) -> None:
    """Give the logins to a host, in files of its user."""
    host.as_user("root").shell(f"rm -rf {GIVEN} {WORK}; mkdir -m 1777 {WORK}")
    helpers = {name: f"#!/bin/sh\nIFS= read -r address\n{body}\n" for name, body in HELPERS.items()}
    files = {f"{GIVEN}/{name}": json.dumps(document) for name, document in AUTHFILES.items()}
    write(host, {**files, **{f"{GIVEN}/bin/docker-credential-{name}": text for name, text in helpers.items()}})


def play(host: Host, cases: Mapping[str, Case], pipelining: bool, directory: Path) -> Run:
    """Run cases in one play, as talkative as Ansible can be, and look everywhere."""
    prepare(host)
    certificate = (LAB / "tls/server.pem", LAB / "tls/server.key")
    with FaultyRegistry(f"http://{REGISTRY}", certificate) as other, Watch(host) as watch:
        other.when("", faults.challenged('Basic realm="x"', set()))
        logs = LabLogs()
        marker = "RESULTS-OF-THE-TASKS"
        tasks = [case.task(number, other.address) for number, case in enumerate(cases.values())]
        names = ", ".join(f"result_{number}" for number in range(len(cases)))
        tasks.append({"ansible.builtin.debug": {"msg": f"{marker}{{{{ [{names}] | to_json | b64encode }}}}{marker}"}})
        path = f"{GIVEN}/bin:/usr/local/bin:/usr/bin:/bin"
        document = {"hosts": host.name, "gather_facts": False, "environment": {"PATH": path}, "tasks": tasks}
        variables = {"ansible_user": host.user, "ansible_pipelining": pipelining}
        command = ["ansible-playbook", "-vvvv", "-i", str(LAB / "inventory.yml"), "-e", json.dumps(variables)]
        done = subprocess.run(
            [*command, "/dev/stdin"],
            input=json.dumps([document]),
            env={**os.environ, "ANSIBLE_LOG_PATH": str(directory / "ansible.log")},
            capture_output=True,
            text=True,
            timeout=7200,
            check=False,
        )
    found = re.search(f"{marker}([A-Za-z0-9+/=]+){marker}", done.stdout)
    assert found, done.stdout[-3000:] + done.stderr
    results = base64.b64decode(found.group(1)).decode()
    texts = {
        "Ansible's output": done.stdout + done.stderr,
        "Ansible's log": (directory / "ansible.log").read_text(encoding="utf-8"),
        "the results": results,
        "processes and system log of the host": watch.seen,
        **logs.new(),
    }
    others = [each.headers["authorization"] for each in other.requests if "authorization" in each.headers]
    assert other.requests, "the other host was asked"
    return Run(dict(zip(cases, json.loads(results), strict=True)), texts, files_with(host, SECRETS), others)


PLAYS = {"root": CASES, "hpc": {name: CASES[name] for name in IN_SHORT}}
"""The cases of each user: all as root with pipelining, some as an ordinary user without."""


@pytest.fixture(scope="module")
def runs(hosts: tuple[Host, Host], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Run]]:
    """Yield the results of the cases that a user plays; they are played once."""

    @functools.cache
    def played(user: str) -> Run:
        host = hosts[user != "root"].as_user(user)
        return play(host, PLAYS[user], user == "root", tmp_path_factory.mktemp("log"))

    yield played
    for host in hosts:
        host.shell(f"rm -rf {GIVEN} {WORK}")


@pytest.mark.parametrize(("user", "name"), [(user, name) for user, cases in PLAYS.items() for name in cases])
def test_a_login_does_what_it_may_and_a_refusal_says_why(user: str, name: str, runs: Callable[[str], Run]) -> None:
    case, result = CASES[name], runs(user).results[name]
    if isinstance(case.ends, str):
        assert not result.get("failed"), result.get("msg")
        assert result["images"][0]["action"] == case.ends
    else:
        assert result.get("failed"), "it must not be served"
        for part in case.ends:
            assert part in result["msg"]
    warnings = " ".join(map(str, result.get("warnings", [])))
    for part in case.warns:
        assert part in warnings
    assert case.warns or not warnings or result.get("failed")


@pytest.mark.parametrize("user", PLAYS)
def test_no_login_is_seen_anywhere(user: str, runs: Callable[[str], Run]) -> None:
    run = runs(user)
    assert leaks(run.texts) == []
    assert run.files == []
    assert run.others == []
    assert "sregistry_pull" in run.texts["Ansible's log"]
    assert "/token?scope=" in run.texts["the log tokens.log"]
    assert "python3" in run.texts["processes and system log of the host"]


def test_what_is_seen_would_be_found(hosts: tuple[Host, Host]) -> None:
    host = hosts[0]
    prepare(host)
    planted = [f"/root/.ansible/tmp/planted/{BEARER}", "/tmp/planted", "/var/tmp/planted", f"{WORK}/cache/planted"]
    with Watch(host) as watch:
        write(host, dict.fromkeys(planted, f"before {IDENTITY} after"))
        host.shell("""
            (exec -a $(echo LAB-SECRET | tr A-Z a-z) sleep 0.3)
            A=$(printf %s-secret former) sleep 0.3
            echo wrong-SECRET | tr A-Z a-z | logger -t planted
        """)
    try:
        assert sorted(files_with(host, SECRETS)) == sorted(planted)
    finally:
        host.shell(f"rm -rf {' '.join(planted)} /root/.ansible/tmp/planted {GIVEN} {WORK}")
    seen = leaks({"the watch": watch.seen})
    assert seen == [f"{PASSWORDS[name]} in the watch" for name in ("lab", "former", "nobody")], (
        "argument, variable, log"
    )
    assert leaks({"a text": f"Bearer {BEARER}abc"}) == [f"{BEARER} in a text"]


# Tokens that end in the middle of a run, at the real registry


@pytest.mark.parametrize(
    ("account", "seconds", "statuses"),
    [
        ("hasty", 2.1, [401, 200, 401, 200]),  # the server said 300 s: the registry refuses it, and it is renewed
        ("brief", 1.7, [401, 200, 200]),  # the server said 2 s: it is renewed before
    ],
)
def test_a_token_that_ends_in_the_middle_of_a_run_is_renewed(
    account: str, seconds: float, statuses: list[int], tmp_path: Path
) -> None:
    authfile = tmp_path / "config.json"
    authfile.write_text(json.dumps({"auths": {TOKEN: {"identitytoken": f"{account}-identity-token"}}}))
    agent = f"renewal of {account}"
    transport = Transport(verify=str(LAB / "tls/ca.pem"), user_agent=agent)
    session = Registry(TOKEN, Keychain(authfile=str(authfile)), transport)
    reference = Reference.parse(f"{TOKEN}/secret/tiny")
    begin = laboratory.log_offset("token")
    session.head(reference)
    time.sleep(seconds)
    session.head(reference)
    session.close()
    requests = [each for each in laboratory.requests_of("token", begin) if each.user_agent == agent]
    assert [each.status for each in requests] == statuses


# The playbook that asks


def interactive(command: Sequence[str], answers: Sequence[tuple[str, str]], env: Mapping[str, str]) -> tuple[int, str]:
    """Run a command at a terminal, and answer its questions; its status and all that the terminal shows."""
    parent, child = pty.openpty()
    process = subprocess.Popen(
        command, stdin=child, stdout=child, stderr=child, env=dict(env), start_new_session=True, close_fds=True
    )
    os.close(child)
    shown, waiting, deadline = "", list(answers), time.monotonic() + 120
    while time.monotonic() < deadline:
        ready, _write, _error = select.select([parent], [], [], 1)
        try:
            data = os.read(parent, 65536) if ready else b""
        except OSError:  # the other side is closed
            break
        shown += data.decode(errors="replace")
        if waiting and waiting[0][0] in shown:
            os.write(parent, waiting.pop(0)[1].encode() + b"\n")
    os.close(parent)
    return process.wait(timeout=1200), shown


@pytest.fixture
def playbook(hosts: tuple[Host, Host]) -> Iterator[Any]:
    """Run the playbook on both hosts with a password typed in; return its status and the terminal's text."""
    names = ",".join(host.name for host in hosts)
    variables = {
        "images": [f"{TOKEN}/secret/tiny", f"{TOKEN}/lab/tiny:1.0"],
        "docker_login_hosts": names,
        "docker_login_ca_path": CA,
        "docker_login_storage": f"{WORK}-asked/store",
    }
    command = ["ansible-playbook", "-vvv", "-i", str(LAB / "inventory.yml"), "-e", json.dumps(variables)]

    def run(password: str) -> tuple[int, str]:
        answers = [("Enter Docker Username", "lab"), ("Enter Docker Password", password)]
        return interactive([*command, "hpc.sregistry.docker_login"], answers, os.environ)

    yield run
    for host in hosts:
        host.shell(f"rm -rf {WORK}-asked")


def test_the_playbook_asks_here_pulls_there_and_leaves_nothing(playbook: Any, hosts: tuple[Host, Host]) -> None:
    status, shown = playbook(PASSWORDS["lab"])
    assert status == 0, shown
    for host in hosts:
        assert host.shell(f"find {WORK}-asked/store -name '*.sif' | wc -l").stdout == "2\n"
        assert files_with(host, SECRETS) == []
        assert host.shell("find ~/.ansible/tmp -type f 2>/dev/null | wc -l").stdout == "0\n"
    assert leaks({"the terminal": shown}) == []
    assert f"{TOKEN}/secret/tiny" in shown


def test_the_playbook_says_why_a_login_is_not_accepted(playbook: Any) -> None:
    status, shown = playbook(PASSWORDS["nobody"] + " {{ 1 }}")
    assert status != 0
    assert "did not accept the user name and password of the task" in shown
    assert leaks({"the terminal": shown}) == []
