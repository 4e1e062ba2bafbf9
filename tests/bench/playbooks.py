# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Through Ansible: what a task costs that has nothing to do, beside a ping of the same host."""

from __future__ import annotations

from typing import Any

from tests.bench import node
from tests.bench.contenders import REGISTRY
from tests.bench.results import Play, Plays
from tests.bench.rounds import rounds
from tests.lab.catalogue import BENCH_TINY
from tests.lab.inventories import FILL
from tests.measure.command import Failed, say

PING, ONE, HUNDRED, FACTS, BESIDE = "ping", "one", "hundred", "facts", "beside"
TITLES = {
    PING: "ansible.builtin.ping",
    ONE: "1 image, unchanged",
    HUNDRED: "100 images, unchanged",
    FACTS: "facts of 10,001 images",
    BESIDE: "1 image recorded, unchanged, beside 10,000",
}
COPIES = 10_000


def prepare(name: str = "", **settings: str) -> None:
    """Fill the stores, and run each playbook once, see ``run``."""
    for key, title in TITLES.items():
        say(f"  preparing {title}")
        if key in (FACTS, BESIDE):
            store = _store(key + name)
            node.play(_task(BESIDE), store, **settings)
            inventory = f"{store['SREGISTRY_STORAGE']}/.sregistry"
            node.shell("python3 -", FILL.format(inventory=inventory, count=COPIES))
        node.play(_task(key), _store(key + name), **settings)


def measure(runs: int) -> dict[str, Plays]:
    """Run the playbooks in turn; each one that pulls has a store of its own, which is filled before."""
    plays: dict[str, list[Play]] = {key: [] for key in TITLES}
    times: dict[str, list[float]] = {key: [] for key in TITLES}
    prepare()
    sent = {key: node.sent(_task(key), _store(key)) for key in TITLES}
    for number, keys in rounds(times, runs, float("inf")):
        for key in keys:
            play = run(key)
            say(f"  {number}/{runs}  {TITLES[key]:<42} {play.run:6.2f} s, the task {play.task:.2f} s")
            plays[key].append(play)
            times[key].append(play.run)
    return {key: Plays(TITLES[key], plays[key], sent[key]) for key in TITLES}


def run(key: str, name: str = "", **settings: str) -> Play:
    """Run a playbook that has nothing to do.

    ``settings`` are environment variables of ``ansible-playbook``: with these it may run other code, which has stores
    of its own, for its ``name``.

    :raises Failed: it did something.
    """
    play, changed = node.play(_task(key), _store(key + name), **settings)
    if changed:
        raise Failed(f"{TITLES[key]}: the task changed something")
    return play


def _store(key: str) -> dict[str, str]:
    directory = f"{node.BENCH}/plays"
    return {"SREGISTRY_STORAGE": f"{directory}/{key}", "APPTAINER_CACHEDIR": f"{directory}/cache"}


def _task(key: str) -> dict[str, Any]:
    if key == PING:
        return {"ansible.builtin.ping": {}}
    if key == FACTS:
        return {"hpc.sregistry.sregistry_facts": {}}
    if key == BESIDE:
        return {"hpc.sregistry.sregistry_record": {"name": f"{REGISTRY}/{BENCH_TINY[0]}", "no_https": True}}
    names = BENCH_TINY[:1] if key == ONE else BENCH_TINY
    return {"hpc.sregistry.sregistry_pull": {"name": [f"{REGISTRY}/{name}" for name in names], "no_https": True}}
