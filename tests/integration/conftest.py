# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Modules run on the lab's hosts over SSH, by Ansible itself."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from tests.fleet import cpu
from tests.lab import processes

from .playbooks import run_tasks
from .tags import Tag

LAB = Path(
    os.environ.get("SREGISTRY_LAB_DIR")
    or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hpc.sregistry" / "lab"
)
REGISTRY = "127.0.0.1:5000"
os.environ["ANSIBLE_CONFIG"] = str(Path(__file__).with_name("ansible.cfg"))
_COMPILE_ONCE = Path(__file__).with_name("compile_once.py")
_COMPILED, _PACKAGES = "/run/compiled-once", "/usr/lib/python3/dist-packages"
_SOCKETS = tempfile.TemporaryDirectory(prefix="ssh-", dir="/tmp")  # the path of a socket has to be short


@dataclass(frozen=True)
class Host:
    """One managed host, as one of its users, with one of its Pythons."""

    name: str
    user: str = "root"
    python: str = "/usr/bin/python3"

    def as_user(self, user: str) -> Host:
        """Return the same host as another user."""
        return replace(self, user=user)

    def with_python(self, python: str) -> Host:
        """Return the same host with another interpreter for the modules."""
        return replace(self, python=python)

    def module(
        self, module: str, check: bool = False, diff: bool = False, env: dict[str, str] | None = None, **arguments: Any
    ) -> dict[str, Any]:
        """Run a module of this collection (or any other) in a play and return its result, failed or not."""
        play = {"hosts": self.name, "gather_facts": False, "environment": env or {}, "tasks": [{module: arguments}]}
        variables = {"ansible_user": self.user, "ansible_python_interpreter": self.python}
        options = ["-i", str(LAB / "inventory.yml"), "-e", json.dumps(variables)]
        return run_tasks([*options, *["--check"] * check, *["--diff"] * diff], play)[0]

    def sregistry(
        self,
        action: str,
        *names: str,
        check: bool = False,
        diff: bool = False,
        env: dict[str, str] | None = None,
        **arguments: Any,
    ) -> dict[str, Any]:
        """Run ``sregistry_ACTION`` for images of the lab's plain registry; a name with a host in it stays as it is."""
        full = [name if name.split("/")[0].count(":") or "://" in name else f"{REGISTRY}/{name}" for name in names]
        if names:
            arguments["name"] = full
        if action not in ("facts", "info"):
            arguments.setdefault("no_https", True)
        arguments = {key: value for key, value in arguments.items() if value is not None}
        return self.module(f"hpc.sregistry.sregistry_{action}", check=check, diff=diff, env=env, **arguments)

    def shell(self, script: str, check: bool = True, timeout: int = 7200) -> subprocess.CompletedProcess[str]:
        """Run a shell script on the host by SSH alone."""
        command = [*self._ssh(), script]
        done = subprocess.run(
            command, capture_output=True, text=True, errors="surrogateescape", timeout=timeout, check=False
        )
        assert done.returncode == 0 or not check, f"{script}: status {done.returncode}: {done.stdout}{done.stderr}"
        return done

    def _ssh(self) -> list[str]:
        command = ["ssh", "-F", "none", "-i", str(LAB / "ssh/id_ed25519"), "-p", "2222"]
        command += ["-o", f"UserKnownHostsFile={LAB}/ssh/known_hosts", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR"]
        # One connection carries all commands, as with Ansible's own.
        command += ["-o", "ControlMaster=auto", "-o", "ControlPersist=60s", "-o", f"ControlPath={_SOCKETS.name}/%r@%h"]
        return [*command, f"{self.user}@127.0.1.{self.name.removeprefix('node')}"]

    def copy_directory(self, source: str, target: str) -> None:
        """Copy a directory of this machine to the host, with its modes."""
        with subprocess.Popen(["tar", "-C", source, "-cf", "-", "."], stdout=subprocess.PIPE) as archive:
            command = [*self._ssh(), f"mkdir -p {target} && tar -C {target} -xf -"]
            subprocess.run(command, stdin=archive.stdout, timeout=7200, check=True)


def run(host: Host, path: str) -> str:
    """Run an image's runscript, and return its output."""
    return host.shell(f"apptainer run {'--userns ' if host.user == 'root' else ''}{path}").stdout.strip()


@pytest.fixture(scope="session", autouse=True)
def lab() -> Path:
    """Demand that the lab is up: ``make lab`` brings it up, ``make integration`` does so by itself."""
    assert (LAB / "inventory.yml").exists(), "the lab is not up; run 'make lab'"
    return LAB


@pytest.fixture(scope="session")
def hosts(worker_id: str) -> Iterator[tuple[Host, Host]]:
    """Return two hosts that no other worker of pytest-xdist uses, from number SREGISTRY_LAB_FIRST on, or from 1.

    Until the end of the tests, Python there compiles the same source once, see ``compile_once.py``.
    """
    worker = int(worker_id.removeprefix("gw")) if worker_id.startswith("gw") else 0
    first = int(os.environ.get("SREGISTRY_LAB_FIRST", "1")) + 2 * worker
    both = Host(f"node{first}"), Host(f"node{first + 1}")
    for host in both:
        host.shell(
            f"install -d -m 1777 {_COMPILED}; cd {_PACKAGES}; "
            f"printf %s {shlex.quote(_COMPILE_ONCE.read_text(encoding='utf-8'))} > compile_once.py; "
            "echo import compile_once > compile_once.pth"
        )
    yield both
    for host in both:  # what is measured on a host another time compiles as it does for users
        host.shell(f"rm -rf {_PACKAGES}/compile_once.* {_COMPILED}")


@pytest.fixture(autouse=True)
def cpu_seconds(request: pytest.FixtureRequest) -> Iterator[None]:
    """With ``--durations``, note the CPU seconds of a test: of this process and its children, and of its two hosts."""
    if request.config.getoption("durations") is None:
        yield
        return
    running = {host.name: processes.recorded(host.name) for host in request.getfixturevalue("hosts")}
    roots = {"controller": os.getpid(), **{name: process.pid for name, process in running.items() if process}}
    before = cpu.seconds(roots)
    yield
    used = {name: after - before[name] for name, after in cpu.seconds(roots).items()}
    request.node.user_properties.append(("cpu", (used.pop("controller"), sum(used.values()))))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the CPU seconds of each file of tests, the most first."""
    files: dict[str, list[tuple[float, float]]] = {}
    for report in chain.from_iterable(terminalreporter.stats.values()):
        if getattr(report, "when", "") == "teardown":
            files.setdefault(report.location[0], []).extend(
                value for name, value in report.user_properties if name == "cpu"
            )
    rows = [(sum(each[0] for each in used), sum(each[1] for each in used), file) for file, used in files.items()]
    if any(controller for controller, _hosts, _file in rows):
        terminalreporter.section("CPU seconds: controller, hosts")
        for controller, of_hosts, file in sorted(rows, key=lambda row: -row[0] - row[1]):
            terminalreporter.write_line(f"{controller:7.1f} {of_hosts:7.1f}  {file}")


@pytest.fixture
def node1(hosts: tuple[Host, Host]) -> Host:
    """Return the first host, as root, with an empty store."""
    return _clean(hosts[0])


@pytest.fixture
def node2(hosts: tuple[Host, Host]) -> Host:
    """Return the second host, as root, with an empty store."""
    return _clean(hosts[1])


@pytest.fixture
def tag() -> Tag:
    """Return a fresh tag that says ``one``."""
    fresh = Tag()
    fresh.push("one")
    return fresh


def _clean(host: Host) -> Host:
    homes = " ".join(f"~{user}/{name}" for user in ("root", "hpc") for name in (".singularity", ".apptainer", "sif"))
    host.shell(f"rm -rf {homes} /tmp/sregistry-* /tmp/*.sif 2>/dev/null; true")
    return host
