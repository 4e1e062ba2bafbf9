# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The code of now beside that of an older commit, in one run: the machines are noisy, so only ratios say something."""

from __future__ import annotations

import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from tests.bench import contenders, playbooks
from tests.bench.results import Sample
from tests.bench.rounds import rotated, rounds
from tests.measure import images
from tests.measure.command import ROOT, Failed, say
from tests.measure.table import Table

NAME = "-before"
WORSE = 1.03
"""The ratio from which on a line is worse: what is less, this machine does not tell from noise."""


@dataclass(frozen=True)
class Line:
    """One figure by both codes: what each run gave."""

    subject: str
    figure: str
    before: list[float] = field(default_factory=list)
    now: list[float] = field(default_factory=list)

    @property
    def typical(self) -> float:
        """The ratio of the medians, now to before."""
        return median(self.now) / median(self.before)

    @property
    def best(self) -> float:
        """The ratio of the least, now to before: what else the machine did is the least there."""
        return min(self.now) / min(self.before)

    @property
    def is_worse(self) -> bool:
        """Tell whether both ratios are worse."""
        return min(self.typical, self.best) > WORSE


FIGURES: dict[str, Callable[[Sample], float]] = {
    "time": lambda sample: sample.seconds,
    "CPU": lambda sample: sample.cpu_seconds,
    "process memory": lambda sample: sample.own_memory,
    "all memory": lambda sample: sample.memory,
}


@contextmanager
def checked_out(commit: str) -> Iterator[dict[str, str]]:
    """Yield the environment of an ``ansible-playbook`` that finds the collection as it was in a commit.

    :raises Failed: if there is no such commit.
    """
    with tempfile.TemporaryDirectory() as directory:
        collection = Path(directory) / "ansible_collections" / "hpc" / "sregistry"
        collection.mkdir(parents=True)
        archive = Path(directory) / "archive.tar"
        command = ["git", "-C", str(ROOT), "archive", f"--output={archive}", commit]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failed(f"git has no files of the commit {commit}: {done.stderr.strip()}")
        with tarfile.open(archive) as files:
            files.extractall(collection, filter="data")
        yield {"ANSIBLE_COLLECTIONS_PATH": directory}


def pulls(image: str, runs: int, allowance: float, settings: Mapping[str, str]) -> list[Line]:
    """Run the module of both codes in turn, for one image."""
    reference = images.reference(image)
    now = {each.key: each for each in contenders.ours(reference)}
    before = {each.key: each for each in contenders.ours(reference, NAME, **settings)}
    lines = {(key, figure): Line(f"{image}: {contenders.TITLES[key]}", figure) for key in now for figure in FIGURES}
    times: dict[str, list[float]] = {key: [] for key in now}
    for number, keys in rounds(times, runs, allowance):
        for key in keys:
            for code in rotated((now, before), number):
                sample = code[key].run()
                for figure, value in FIGURES.items():
                    line = lines[key, figure]
                    (line.now if code is now else line.before).append(value(sample))
            times[key].append(lines[key, "time"].now[-1])
            say(f"  {number}/{runs}  {contenders.TITLES[key]:<30} {lines[key, 'time'].typical:.2f}")
    return list(lines.values())


def plays(runs: int, settings: Mapping[str, str]) -> list[Line]:
    """Run the playbooks of both codes in turn."""
    playbooks.prepare()
    playbooks.prepare(NAME, **settings)
    lines: list[Line] = []
    for key, title in playbooks.TITLES.items():
        whole, task = Line(title, "playbook"), Line(title, "task")
        for number in range(runs):
            for older in rotated((True, False), number):
                play = playbooks.run(key, NAME, **settings) if older else playbooks.run(key)
                (whole.before if older else whole.now).append(play.run)
                (task.before if older else task.now).append(play.task)
        say(f"  {title:<42} {whole.typical:.2f}, the task {task.typical:.2f}")
        lines += [whole, task]
    return lines


def table(lines: list[Line]) -> str:
    """Return the ratios, the worse ones marked."""
    return Table.of(
        lines,
        ("what", lambda line: line.subject),
        ("of", lambda line: line.figure),
        ("runs", lambda line: str(len(line.now))),
        ("now / before, medians", lambda line: f"{line.typical:.3f}"),
        ("least", lambda line: f"{line.best:.3f}"),
        ("", lambda line: "WORSE" if line.is_worse else ""),
        texts=2,
    ).text()
