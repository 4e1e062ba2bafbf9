# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One strategy on some hosts, run and measured."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests import lab
from tests.fleet import cpu, load, memory, strategies
from tests.fleet.results import Controller, Image, Node, Pair, Run, Served
from tests.fleet.traffic import traffic
from tests.lab import hosts, processes, registry
from tests.measure import remote
from tests.measure.command import Failed

BUILT, FETCHED, SAW = "built", "fetched", "saw"
REGISTRIES = (strategies.ORIGIN, strategies.MIRROR, strategies.STORE)


def pair(
    strategy: str,
    image: Image,
    members: Sequence[hosts.Host],
    emptied: Sequence[str],
    filler: Path | None = None,
    **variables: object,
) -> Pair:
    """Run a strategy from nothing, and once more. What goes to the store has a prefix of its own there.

    :param emptied: registries that are emptied before, so nobody else may use them.
    :param filler: what the memory is filled with before.
    :param variables: more variables of the role.
    :raises Failed: a host failed, or the second run still did something.
    """
    make_cold(members, emptied)
    if filler:
        memory.fill(filler)
    prefix = f"fleet-{uuid.uuid4().hex[:8]}"
    play = strategies.play(strategy, image, [host.name for host in members], prefix, variables)
    ours = (f"/v2/{image.repository}/", f"/v2/{prefix}/")
    cold = run([play], image, members, ours)
    again = run([play], image, members, ours)
    if busy := [name for name, node in again.nodes.items() if node.did != SAW]:
        raise Failed(f"{strategy}: the second run had still something to do on {', '.join(busy)}")
    return Pair(strategy, len(members), cold, again)


def make_cold(members: Sequence[hosts.Host], emptied: Sequence[str]) -> None:
    """Remove what earlier runs left: on the hosts, in their common directory, and in registries."""
    own = " ".join(strategies.OWN_DIRECTORIES)
    with ThreadPoolExecutor(len(members)) as pool:
        list(pool.map(lambda host: remote.shell(host, f"rm -rf {own}"), members))
    remote.shell(members[0], f"rm -rf {strategies.SHARED_STORAGE}")
    lab.empty(*emptied)
    os.sync()


def run(plays: list[dict[str, Any]], image: Image, members: Sequence[hosts.Host], ours: tuple[str, ...]) -> Run:
    """Run a playbook on all hosts at once and measure what that costs everybody.

    :param ours: how the paths of the requests begin that count; other work may go on at the registries.
    :raises Failed: a host is not in the result, or failed.
    """
    since = {name: lab.log_offset(name) for name in REGISTRIES}
    roots = {host.name: _process_of(host) for host in members}
    before = cpu.seconds(roots)
    with load.watching({name: _watched(name, since[name]) for name in REGISTRIES}) as watch:
        controller, lines = _playbook(plays, forks=len(members))
    after = cpu.seconds(roots)
    nodes = {name: _node(name, lines, after[name] - before[name]) for name in roots}
    served = {}
    for name in REGISTRIES:
        requests = [each for each in lab.requests_of(name, since[name]) if each.path.startswith(ours)]
        served[name] = Served(traffic(requests, image.layers), watch.load(name))
    return Run(nodes, controller, served)


def _process_of(host: hosts.Host) -> int:
    started = processes.recorded(host.name)
    if not started:
        raise Failed(f"{host.name} does not run; bring the lab up")
    return started.pid


def _watched(name: str, since: int) -> load.Watched:
    where = lab.REGISTRIES[name]
    return load.Watched(registry.process_id(name), where.port, where.access_log, since)


def _node(host: str, lines: Iterable[Mapping[str, Any]], used: float) -> Node:
    """Return the work of a host, from the last task that reported images there."""
    own = [line for line in lines if line["host"] == host and (line["images"] or line["failed"])]
    if not own:
        raise Failed(f"the playbook said nothing of {host}")
    if error := next((line["error"] for line in own if line["failed"]), None):
        raise Failed(f"{host}: {error}")
    images = [image for line in own for image in line["images"]]
    if any(image["builder"] for image in images):
        did = BUILT
    else:
        did = FETCHED if any(image["changed"] for image in images) else SAW
    return Node(did, round(used, 2), next((image["size"] for image in images if image["size"]), 0))


def _playbook(plays: list[dict[str, Any]], forks: int) -> tuple[Controller, list[dict[str, Any]]]:
    """Run plays with connections of their own; returns what that took, and the lines of the callback."""
    with tempfile.TemporaryDirectory(prefix="fleet-") as directory:
        sockets = str(Path(directory, "cp"))
        playbook = remote.playbook(
            Path(directory), plays, ANSIBLE_SSH_CONTROL_PATH_DIR=sockets, ANSIBLE_FORKS=str(forks)
        )
        begin, main_cpu = time.monotonic(), 0.0
        with (
            Path(directory, "output").open("w+b") as output,
            subprocess.Popen(
                playbook.command, env=playbook.environment, stdout=output, stderr=subprocess.STDOUT
            ) as process,
        ):
            while True:
                found = cpu.process(process.pid)
                main_cpu = max(main_cpu, found.own if found else 0.0)
                ended, _status, usage = os.wait4(process.pid, os.WNOHANG)
                if ended:
                    process.returncode = os.waitstatus_to_exitcode(_status)
                    break
                time.sleep(0.05)
            seconds = time.monotonic() - begin
            # The connections outlive the playbook, and are no children of it any more.
            connections = cpu.of_all(sockets)
            for number in cpu.named(sockets):
                with suppress(ProcessLookupError):
                    os.kill(number, signal.SIGTERM)
            lines = playbook.lines()
            if process.returncode and not any(line["failed"] for line in lines):
                output.seek(0)
                raise Failed(output.read().decode(errors="replace")[-3000:])
    used = usage.ru_utime + usage.ru_stime + connections
    return Controller(round(seconds, 2), round(used, 2), round(main_cpu, 2)), lines
