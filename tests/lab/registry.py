# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The registries and their access logs: three doors to one storage, a mirror of it, and a store for SIF files."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.lab import commands, paths, processes

USER = "lab"
PASSWORD = "lab-secret"
TOKEN_PORT = 5003
TOKEN_VERSION = "2"
TOKEN_ISSUER = "hpc.sregistry lab tokens"
TOKEN_SERVICE = "hpc.sregistry lab registry"
OWN_AGENT = "hpc.sregistry-lab"
REPOSITORY_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Registry:
    """A registry: a door to the common storage, or one with a storage of its own (``own``).

    With ``upstream`` it is a pull-through cache of that one, by its base URL.
    """

    name: str
    port: int
    secure: bool
    login: str
    own: bool = False
    upstream: str | None = None

    @property
    def address(self) -> str:
        """``host:port``, as it stands in an image reference."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The base URL."""
        return f"{'https' if self.secure else 'http'}://{self.address}"

    @property
    def access_log(self) -> Path:
        """The access log, in Apache's combined format."""
        return paths.logs() / f"registry-{self.name}.log"

    @property
    def storage(self) -> Path:
        """Return the storage that it serves."""
        return paths.storage_of(self.name) if self.own else paths.storage()


@dataclass(frozen=True)
class Request:
    """One line of an access log."""

    remote: str
    user: str
    method: str
    path: str
    status: int
    size: int
    user_agent: str


REGISTRIES = {
    registry.name: registry
    for registry in (
        Registry("plain", 5000, False, "nobody"),
        Registry("private", 5001, True, f"{USER} / {PASSWORD}"),
        Registry("token", 5002, True, f"tokens; {USER} / {PASSWORD} for secret/…"),
        Registry("mirror", 5004, False, "nobody", own=True, upstream="http://127.0.0.1:5000"),
        Registry("store", 5005, False, "nobody", own=True),
    )
}

DEBIANS = "docker-registry"
_programs: dict[str, str] = {}

_LINE = re.compile(
    r'(?P<remote>\S+) \S+ (?P<user>\S+) \[[^]]*\] "(?P<method>\S+) (?P<path>.*?) HTTP/[\d.]+" '
    r'(?P<status>\d+) (?P<size>\d+) "(?P<referer>(?:\\.|[^"\\])*)" "(?P<agent>(?:\\.|[^"\\])*)"'
)


def ensure() -> None:
    """Start the token server and the registries that do not run, and wait until they answer."""
    mirrors = [registry for registry in REGISTRIES.values() if registry.upstream]
    _wait_for([_ensure_tokens(), *(_ensure_registry(each) for each in REGISTRIES.values() if not each.upstream)])
    _wait_for([_ensure_registry(each) for each in mirrors])  # which start only where the upstream registry answers


def use(name: str, program: str) -> None:
    """Let a registry of an own storage be served by another program than Debian's, for as long as this process lasts.

    Takes effect when it is emptied or ensured next.
    """
    _programs[name] = program


def empty(name: str) -> None:
    """Let a registry that has a storage of its own begin again with nothing in it.

    :raises ValueError: it serves the common storage.
    """
    registry = REGISTRIES[name]
    if not registry.own:
        raise ValueError(f"the registry {name} has no storage of its own that could be emptied")
    processes.stop(_process(registry))
    shutil.rmtree(registry.storage)
    _wait_for([_ensure_registry(registry)])


def process_id(name: str) -> int:
    """Return the process of registry ``name``.

    :raises DidNotAnswer: it does not run.
    """
    running = processes.recorded(_process(REGISTRIES[name]))
    if not running:
        raise processes.DidNotAnswer(f"the registry {name} does not run; bring the lab up")
    return running.pid


def listens(port: int, host: str = "127.0.0.1") -> bool:
    """Tell whether something accepts connections there."""
    try:
        socket.create_connection((host, port), timeout=2).close()
    except OSError:
        return False
    return True


def log_offset(name: str) -> int:
    """Return the present end of registry ``name``'s access log: the ``since`` of a later :func:`requests_of`."""
    _settle(REGISTRIES[name].access_log)
    return _size(REGISTRIES[name].access_log)


def requests_of(name: str, since: int = 0, own: bool = False) -> list[Request]:
    """Return the requests that registry ``name`` answered after ``since``, without the lab's own unless ``own``."""
    log = REGISTRIES[name].access_log
    _settle(log)
    if not log.exists():
        return []
    with log.open("rb") as stream:
        stream.seek(since)
        lines = stream.read().decode(errors="replace").splitlines()
    requests = [_request(found) for found in map(_LINE.match, lines) if found]
    return [request for request in requests if own or request.user_agent != OWN_AGENT]


def _request(found: re.Match[str]) -> Request:
    return Request(
        found["remote"],
        "" if found["user"] == "-" else found["user"],
        found["method"],
        found["path"],
        int(found["status"]),
        int(found["size"]),
        re.sub(r"\\(.)", r"\1", found["agent"]),
    )


def _settle(log: Path, quiet: float = 0.1, at_most: float = 2.0) -> None:
    """Wait until the log has not grown for ``quiet`` seconds: a line is written just after its answer was sent."""
    deadline, size = time.monotonic() + at_most, -1
    while size != _size(log) and time.monotonic() < deadline:
        size = _size(log)
        time.sleep(quiet)


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _ensure_tokens() -> tuple[str, int, processes.Started]:
    running = _running("tokens", TOKEN_VERSION, TOKEN_PORT) or processes.start(
        "tokens",
        [sys.executable, "-m", "tests.lab.tokens"],
        paths.logs() / "tokens.out",
        paths.logs() / "tokens.out",
        TOKEN_VERSION,
        {"PYTHONPATH": str(REPOSITORY_ROOT), "SREGISTRY_LAB_DIR": str(paths.lab_dir())},
    )
    return "the token server", TOKEN_PORT, running


def _ensure_registry(registry: Registry) -> tuple[str, int, processes.Started]:
    name, program = _process(registry), _program(registry)
    text = json.dumps(_configuration(registry), indent=1)
    recipe = hashlib.sha256(f"{program}\n{text}".encode()).hexdigest()
    running = _running(name, recipe, registry.port)
    if not running:
        config = paths.config() / f"{name}.yml"
        config.write_text(text, encoding="utf-8")
        errors = paths.logs() / f"{name}.err"
        running = processes.start(name, [program, "serve", config], registry.access_log, errors, recipe)
    return name, registry.port, running


def _program(registry: Registry) -> str:
    return _programs.get(registry.name, DEBIANS)


def _process(registry: Registry) -> str:
    """Return the name of its process in the lab's records."""
    return f"registry-{registry.name}"


def _wait_for(started: list[tuple[str, int, processes.Started]]) -> None:
    for name, port, process in started:
        processes.wait_until(lambda port=port: listens(port), process, name)  # type: ignore[misc]


def _running(name: str, recipe: str, port: int) -> processes.Started | None:
    """Return the process of that name and recipe; stop one of an older recipe. A stranger on its port is an error."""
    running = processes.recorded(name)
    if running and running.recipe == recipe:
        return running
    processes.stop(name)
    if listens(port):
        raise processes.DidNotAnswer(f"port {port} of {name} is taken by a process that this lab did not start")
    return None


def _configuration(registry: Registry) -> dict[str, object]:
    """Return the registry's configuration (JSON is YAML)."""
    http: dict[str, object] = {"addr": registry.address, "secret": "one secret for all three"}
    if registry.secure:
        http["tls"] = {"certificate": str(paths.tls() / "server.pem"), "key": str(paths.tls() / "server.key")}
    return {
        "version": 0.1,
        "log": {"level": "warn", "accesslog": {"disabled": False}},
        "storage": {
            "filesystem": {"rootdirectory": str(registry.storage), "maxthreads": 100},
            "delete": {"enabled": True},
            "maintenance": {"uploadpurging": {"enabled": False}},
        },
        "http": http,
        "compatibility": {"schema1": {"enabled": True}},
        **_authentication(registry),
        **({"proxy": {"remoteurl": registry.upstream}} if registry.upstream else {}),
    }


def _authentication(registry: Registry) -> dict[str, object]:
    if registry.name == "private":
        return {"auth": {"htpasswd": {"realm": "hpc.sregistry lab", "path": str(_password_file())}}}
    if registry.name == "token":
        token = {
            "realm": f"https://127.0.0.1:{TOKEN_PORT}/token",
            "service": TOKEN_SERVICE,
            "issuer": TOKEN_ISSUER,
            "rootcertbundle": str(paths.ca_certificate()),
        }
        return {"auth": {"token": token}}
    return {}


def _password_file() -> Path:
    file = paths.config() / "htpasswd"
    if not file.exists():
        file.write_bytes(commands.output_of(["htpasswd", "-nbBC", "5", USER, PASSWORD]))
    return file
