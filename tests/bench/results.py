# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Results of a run: the samples, and what is made of them."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.measure.record import Record


@dataclass(frozen=True)
class Sample:
    """One run of one command; memory and sizes are bytes. See ``meter.py`` for what is what."""

    seconds: float
    cpu_seconds: float
    own_memory: int
    other_memory: int
    memory: int
    written: int
    size: int
    phases: dict[str, float] = field(default_factory=dict)
    """Seconds of the steps of a pull, as the module itself returned them."""


@dataclass(frozen=True)
class Series:
    """All runs of one command."""

    title: str
    samples: list[Sample]

    @property
    def runs(self) -> int:
        """Count the samples."""
        return len(self.samples)

    @property
    def seconds(self) -> float:
        """The median of the wall times."""
        return self.median(lambda sample: sample.seconds)

    @property
    def range(self) -> tuple[float, float]:
        """The shortest and the longest wall time."""
        times = [sample.seconds for sample in self.samples]
        return min(times), max(times)

    def median(self, figure: Callable[[Sample], float]) -> float:
        """Return the median of some figure of the samples."""
        return statistics.median(map(figure, self.samples))

    def phases(self) -> dict[str, float]:
        """Return the median of each step, in the order in which steps are first named."""
        names = dict.fromkeys(name for sample in self.samples for name in sample.phases)
        return {name: self.median(lambda sample, name=name: sample.phases.get(name, 0.0)) for name in names}  # type: ignore[misc]


@dataclass(frozen=True)
class Image:
    """An image by its properties; ``compressed`` is the bytes of its layers as the registry stores them."""

    name: str
    title: str
    layers: int
    compressed: int


@dataclass(frozen=True)
class Comparison:
    """All commands for one image, by the keys of ``contenders.py``."""

    image: Image
    series: dict[str, Series]


@dataclass(frozen=True)
class Play:
    """One run of ``ansible-playbook``: the whole process, and its only task."""

    run: float
    task: float


@dataclass(frozen=True)
class Plays:
    """All runs of one playbook; ``sent`` are the bytes that travel to the host, which a run of before may lack."""

    title: str
    plays: list[Play]
    sent: int | None = None

    @property
    def run(self) -> float:
        """The median of the whole process."""
        return statistics.median(play.run for play in self.plays)

    @property
    def task(self) -> float:
        """The median of the task alone."""
        return statistics.median(play.task for play in self.plays)


@dataclass(frozen=True)
class Results(Record):
    """A whole run of the benchmark."""

    comparisons: list[Comparison]
    plays: dict[str, Plays]
