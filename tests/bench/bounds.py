# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The promises of the collection, and the check that a run kept them. A report, not a test: a machine may be busy."""

from __future__ import annotations

from dataclasses import dataclass

from tests.bench import contenders as who
from tests.bench import playbooks
from tests.bench.results import Comparison, Plays, Results
from tests.measure.figures import MEGABYTE, TIMES, decimal

FASTER_THAN_PULL = {"compiler": 10.0, "science": 10.0}
FASTER_THAN_PULL_ELSEWHERE = 5.0
FASTER_THAN_EXPERT = 3.0
OF_THE_FLOOR = 1.4
WARM_OF_COLD = 0.7
LARGER_THAN_PULL = 6.0  # per cent
OWN_MEMORY = 120 * MEGABYTE
ONE_OF_PING = 1.5
HUNDRED_OF_PING = 4.0
FACTS_OF_MANY = 2.5  # seconds
BESIDE_OF_ONE = 1.5


@dataclass(frozen=True)
class Bound:
    """One promise: ``value`` is to be at least or at most ``limit``, in ``unit``."""

    subject: str
    promise: str
    value: float
    limit: float
    at_least: bool = False
    unit: str = TIMES

    @property
    def kept(self) -> bool:
        """Tell whether the promise is kept."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    @property
    def wanted(self) -> str:
        """The limit in words."""
        return f"at {'least' if self.at_least else 'most'} {self.limit:g} {self.unit}"

    @property
    def measured(self) -> str:
        """The value with as many digits as tell it from the limit."""
        return f"{decimal(self.value)} {self.unit}"


def bounds(results: Results) -> list[Bound]:
    """Return all promises about which the run has something to say."""
    found = [bound for comparison in results.comparisons for bound in _of_image(comparison)]
    return [*found, *_of_plays(results.plays)]


def _of_image(comparison: Comparison) -> list[Bound]:
    name, series = comparison.image.name, comparison.series
    ours, pull = series[who.OURS], series[who.PULL]
    faster = FASTER_THAN_PULL.get(name, FASTER_THAN_PULL_ELSEWHERE)
    own, size = ours.median(lambda sample: sample.own_memory), ours.median(lambda sample: sample.size)
    larger = (size / pull.median(lambda sample: sample.size) - 1) * 100
    return [
        Bound(name, "speed, against `apptainer pull`", pull.seconds / ours.seconds, faster, at_least=True),
        Bound(
            name,
            "speed, against `apptainer build` with zstd 3",
            series[who.EXPERT].seconds / ours.seconds,
            FASTER_THAN_EXPERT,
            at_least=True,
        ),
        Bound(name, "time, against the floor", ours.seconds / series[who.FLOOR].seconds, OF_THE_FLOOR),
        Bound(
            name, "time with a warm cache, against a cold one", series[who.WARM].seconds / ours.seconds, WARM_OF_COLD
        ),
        Bound(name, "size of the SIF, above that of `apptainer pull`", larger, LARGER_THAN_PULL, unit="%"),
        Bound(name, "peak memory of the module's process", own / MEGABYTE, OWN_MEMORY / MEGABYTE, unit="MB"),
    ]


def _of_plays(plays: dict[str, Plays]) -> list[Bound]:
    if not plays:
        return []
    ping, one, hundred = (plays[key] for key in (playbooks.PING, playbooks.ONE, playbooks.HUNDRED))
    pulls = (("1 unchanged image", one, ONE_OF_PING), ("100 unchanged images", hundred, HUNDRED_OF_PING))
    found = []
    for what, pull, limit in pulls:
        found.append(Bound("Ansible", f"{what}, against a ping; whole playbooks", pull.run / ping.run, limit))
        found.append(Bound("Ansible", f"{what}, against a ping; the tasks alone", pull.task / ping.task, limit))
    if playbooks.FACTS in plays:  # a run of before may lack them
        facts, beside = plays[playbooks.FACTS], plays[playbooks.BESIDE]
        promise = "1 image recorded beside 10,000, against 1 unchanged alone; the tasks alone"
        found.append(Bound("Ansible", "facts of 10,001 images; the task alone", facts.task, FACTS_OF_MANY, unit="s"))
        found.append(Bound("Ansible", promise, beside.task / one.task, BESIDE_OF_ONE))
    return found
