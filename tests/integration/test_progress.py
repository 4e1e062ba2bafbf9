# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pulls over a slow network, all at once: who watches sees how far they are, and nobody else does.

The network is slow until what a test waits for has been seen: on a busy machine there are fewer looks.
"""

from __future__ import annotations

import base64
import json
import os
import pty
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.faults import FaultyRegistry, faults
from tests.integration.conftest import LAB, REGISTRY, Host

WORK = "/tmp/progress"
IMAGE = "lab/tiny:2.0"  # one layer of about 1 MiB
RATE = 20_000  # bytes a second
LINE = re.compile(r"^\W*\S*(node\d+): \S+/lab/tiny:2\.0: (?:\w+, )?fetched (\d\.\d) of 1\.0 MiB", re.MULTILINE)
SUMMARY = re.compile(r"(\d) of 5 hosts done, (\d) at work: fetched \d\.\d of \d\.\d MiB")


@dataclass
class Run:
    """A playbook that runs beside others."""

    process: subprocess.Popen[bytes]
    terminal: int | None
    output: str = ""

    @classmethod
    def start(
        cls, play: dict[str, Any], inventory: Path, *arguments: str, terminal: bool = False, progress: str = ""
    ) -> Run:
        """Start it, on a terminal of its own or with its output in a pipe."""
        path = inventory.with_name(f"{inventory.name}-{time.monotonic_ns()}.yml")
        path.write_text(json.dumps([{"gather_facts": False, **play}]))
        command = ["ansible-playbook", "-i", str(inventory), *arguments, str(path)]
        environment = {**os.environ, "SREGISTRY_PROGRESS": progress}
        if not terminal:
            pipe = subprocess.PIPE
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=subprocess.STDOUT, env=environment
            )
            return cls(process, None)
        own, other = pty.openpty()
        process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", *command], stdin=other, stdout=other, stderr=other, env=environment
        )
        os.close(other)
        return cls(process, own)

    def read(self, until: Callable[[str], object] = lambda _output: False) -> str:
        """Read its output, until it ends or that is enough."""
        descriptor = self.process.stdout.fileno() if self.process.stdout else self.terminal
        assert descriptor is not None
        while not until(self.output):
            try:
                more = os.read(descriptor, 65536)
            except OSError:  # the end of a terminal
                break
            if not more:
                break
            self.output += more.decode()
        return self.output

    def interrupt(self) -> None:
        """Press Control-C."""
        assert self.terminal is not None
        os.write(self.terminal, b"\x03")


@dataclass
class Site:
    """Two hosts, one of them under five names more, and two slow registries, of which one is for an interrupted run."""

    hosts: tuple[Host, Host]
    registry: FaultyRegistry
    second: FaultyRegistry
    inventory: Path
    runs: dict[str, Run] = field(default_factory=dict)

    def play(self, hosts: str, task: str, registry: FaultyRegistry | None = None, /, **more: Any) -> dict[str, Any]:
        """Return a play: a pull into a store of its own, for a user who is not root."""
        place = f"{WORK}-{task}-{{{{ inventory_hostname }}}}"
        defaults = {"storage": f"{place}/store", "cachedir": f"{place}/cache", "no_https": True}
        step = {
            "hpc.sregistry.sregistry_pull": {"name": "{{ item }}"},
            "loop": [f"{(registry or self.registry).address}/{IMAGE}"],
            "register": "pulled",
            **more,
        }
        result = {"ansible.builtin.debug": {"msg": "RESULT {{ pulled.results[0] | to_json | b64encode }} END"}}
        return {
            "hosts": hosts,
            "become": True,
            "become_user": "hpc",
            "module_defaults": {"group/hpc.sregistry.sregistry": defaults},
            "tasks": [step, result],
        }

    def left(self) -> str:
        """List the remains on the hosts of runs that have ended."""
        return "".join(host.shell("ls -d /tmp/sregistry-* 2>/dev/null", check=False).stdout for host in self.hosts)


@pytest.fixture(scope="module")
def site(hosts: tuple[Host, Host], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Start all runs, which take their time side by side."""
    lab = json.loads((LAB / "inventory.yml").read_text())["lab"]
    address = lab["hosts"][hosts[1].name]
    members = {host.name: lab["hosts"][host.name] for host in hosts}
    many = {f"other{number}": address for number in range(5)}
    inventory = tmp_path_factory.mktemp("progress") / "inventory.yml"
    document = {"all": {"vars": lab["vars"], "hosts": members, "children": {"many": {"hosts": many}}}}
    inventory.write_text(json.dumps(document))
    clean = f"rm -rf {WORK}-* /tmp/sregistry-*"
    for host in hosts:
        host.shell(clean)
    with FaultyRegistry(f"http://{REGISTRY}") as registry, FaultyRegistry(f"http://{REGISTRY}") as second:
        for each in (registry, second):
            each.when("/blobs/", faults.slowed(RATE))
        site = Site(hosts, registry, second, inventory)
        first = hosts[0].name
        site.runs = {
            "terminal": Run.start(site.play(first, "terminal"), inventory, terminal=True),
            "interrupted": Run.start(site.play(first, "interrupted", second), inventory, terminal=True),
            "pipe": Run.start(site.play(first, "pipe"), inventory),
            "check": Run.start(site.play(first, "check", check_mode=True), inventory, progress="always"),
            "async": Run.start(site.play(first, "async", **{"async": 60, "poll": 2}), inventory, progress="always"),
            "many": Run.start(site.play("many", "many"), inventory, "-e", "sregistry_progress=always"),
        }
        yield site
        for each in (registry, second):
            each.hurry()
        for run in site.runs.values():
            run.read()
            run.process.wait()
    for host in hosts:
        host.shell(clean)


def result_of(output: str) -> dict[str, Any]:
    """Return the task's result."""
    found = re.search(r"RESULT ([A-Za-z0-9+/=]+) END", output)
    assert found, output
    return dict(json.loads(base64.b64decode(found.group(1))))


def test_an_interruption_ends_the_playbook_and_leaves_nothing(site: Site) -> None:
    run = site.runs["interrupted"]
    assert LINE.search(run.read(until=LINE.search))
    run.interrupt()
    begin = time.monotonic()
    assert "User interrupted execution" in run.read()
    assert run.process.wait() != 0
    assert time.monotonic() - begin < 30, "the pull would take longer"
    site.second.hurry()  # what the module does on the host it does to the end


def test_many_hosts_share_a_line(site: Site) -> None:
    output = site.runs["many"].read(until=SUMMARY.search)
    assert not LINE.search(output)
    counts = [(int(done), int(working)) for done, working in SUMMARY.findall(output)]
    assert counts, output
    assert all(done + working == 5 for done, working in counts)


def test_on_a_terminal_figures_grow(site: Site) -> None:
    site.runs["terminal"].read(until=lambda output: len({amount for _host, amount in LINE.findall(output)}) > 1)
    site.registry.hurry()
    output = site.runs["terminal"].read()
    lines = LINE.findall(output)
    assert {host for host, _amount in lines} == {site.hosts[0].name}
    amounts = [float(amount) for _host, amount in lines]
    assert len(amounts) >= 2, output
    assert amounts == sorted(amounts) and amounts[-1] > amounts[0]


def test_elsewhere_nothing_is_told(site: Site) -> None:
    output = site.runs["pipe"].read()
    assert "fetched" not in output
    result = result_of(output)
    told = result_of(site.runs["terminal"].read())
    assert told["images"][0]["action"] == result["images"][0]["action"] == "pulled"
    assert sorted(told) == sorted(result)


@pytest.mark.parametrize("name", ["check", "async"])
def test_check_mode_and_async_run_as_ever(name: str, site: Site) -> None:
    output = site.runs[name].read()
    assert not LINE.search(output)
    result = result_of(output)
    assert result["images"][0]["action"] == "pulled"
    assert ("ansible_job_id" in result) == (name == "async")


def test_nothing_is_left_on_the_hosts(site: Site) -> None:
    for run in site.runs.values():
        run.read()
        run.process.wait()
    end = time.monotonic() + 300
    while site.left() and time.monotonic() < end:  # of the run that was interrupted, the module ends when it is done
        time.sleep(0.5)
    assert site.left() == ""
