# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Costs of a fleet, on four hosts: who builds, what the origin sends, what a host spends. See ``make fleet``, too."""

from __future__ import annotations

import os
import statistics
import subprocess
from collections.abc import Iterator

import pytest

from tests.fleet import cpu, run, strategies
from tests.fleet.results import Image, Pair
from tests.lab import hosts, processes
from tests.measure import images

# Beside those of the other workers of pytest-xdist.
FIRST = int(os.environ.get("SREGISTRY_LAB_FIRST", "1")) + 6
HOSTS = [hosts.Host(FIRST + number) for number in range(4)]

# Takes 1 s of a processor in a process that outlives the one that started it.
BURN = """
setsid sh -c "(python3 -c 'import time
while time.process_time() < 1: pass' && touch /tmp/burnt)&" > /dev/null 2>&1
while ! test -e /tmp/burnt; do sleep 0.1; done; rm /tmp/burnt
"""


@pytest.fixture(scope="module", autouse=True)
def _left_clean() -> Iterator[None]:
    yield
    run.make_cold(HOSTS, [])


@pytest.fixture(scope="module")
def image() -> Image:
    """Return a small Debian that is always there."""
    return Image("lab/oci", "a small Debian", *images.manifest("lab/oci:latest"))


@pytest.fixture(scope="module")
def once(image: Image) -> Pair:
    """Build once, and with care: that makes it worth to build only once."""
    return run.pair(strategies.BUILD_ONCE, image, HOSTS, [], prestage_compression="zstd", prestage_compression_level=12)


def test_one_host_builds_and_the_origin_sends_each_blob_once(once: Pair) -> None:
    assert [node.did for node in once.cold.nodes.values()] == [run.BUILT, run.FETCHED, run.FETCHED, run.FETCHED]
    origin = once.cold.registries[strategies.ORIGIN].traffic
    assert len(origin.blobs) == 4, "three layers and a config"
    assert set(origin.blobs.values()) == {1.0}
    assert (origin.manifest_gets, origin.manifest_heads) == (1, 0), "who fetches asks the origin nothing"
    store = once.cold.registries[strategies.STORE].traffic
    assert store.pushes == 1
    assert max(store.blobs.values()) >= 3.0


def test_who_fetches_spends_a_tenth_of_a_build(once: Pair) -> None:
    build = once.cold.nodes[HOSTS[0].name].cpu
    # A run that has nothing to do costs the same whatever the image is, and this one is small.
    idle = statistics.median(node.cpu for node in once.again.nodes.values())
    fetch = statistics.median(node.cpu for node in once.cold.those(run.FETCHED))
    print(f"CPU seconds: build {build}, fetch {fetch}, nothing to do {idle}")
    assert fetch - idle <= (build - idle) / 10


def test_the_second_run_asks_for_one_digest(once: Pair) -> None:
    assert {node.did for node in once.again.nodes.values()} == {run.SAW}
    origin = once.again.registries[strategies.ORIGIN].traffic
    assert (origin.sent, origin.manifest_gets, origin.manifest_heads) == (0, 0, 1)
    assert once.again.registries[strategies.STORE].traffic.sent == 0


def test_runs_that_begin_at_once_in_one_directory_build_once(image: Image) -> None:
    pair = run.pair(strategies.AT_ONCE, image, HOSTS, [])
    assert sorted(node.did for node in pair.cold.nodes.values()) == [run.BUILT, run.SAW, run.SAW, run.SAW]
    assert set(pair.cold.registries[strategies.ORIGIN].traffic.blobs.values()) == {1.0}


def test_the_cpu_of_a_host_holds_what_ran_there() -> None:
    started = [processes.recorded(host.name) for host in HOSTS[:2]]
    roots = {f"{number}": process.pid for number, process in enumerate(started) if process}
    before = cpu.seconds(roots)
    subprocess.run([*hosts.ssh_command(HOSTS[0]), BURN], check=True)
    after = cpu.seconds(roots)
    assert 0.95 <= after["0"] - before["0"] <= 1.4
    assert after["1"] - before["1"] <= 0.1
