# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``python3 -m tests.bench [report|inflate|unchanged|entries]`` in the root; ``make bench`` sets up what it needs."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from tests.bench import before, chart, contenders, entries, huge, inflate, node, playbooks, report, unchanged
from tests.bench.results import Comparison, Image, Results, Sample, Series
from tests.bench.rounds import rounds
from tests.lab.catalogue import BENCH_TINY
from tests.measure import command, images, machine, record
from tests.measure.command import Failed, say

NAME = "bench"
RUNS, ALLOWANCE = 5, 90
ALONE: dict[str, Callable[[argparse.Namespace], str]] = {
    "inflate": lambda arguments: inflate.run(arguments.runs),
    "unchanged": lambda _arguments: unchanged.run(),
    "entries": lambda _arguments: entries.run(),
}
"""Measurements that are run alone, by name; each returns its table."""


def main() -> None:
    """Run one command."""
    arguments = _parser().parse_args()
    with command.run(NAME):
        if arguments.before:
            print(_beside(arguments))
            return
        if arguments.images in images.HUGE:
            huge.run(arguments.images)
            return
        if arguments.what in ALONE:
            print(ALONE[arguments.what](arguments))
            return
        measured = record.read(Results, record.last(NAME)) if arguments.what == "report" else _run(arguments)
        print(report.terminal(measured))
        if arguments.output or _whole(measured):
            _write(measured, arguments.output or command.DOCS)
        else:
            say("Not all of it was measured, so docs/ stays as it is.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make bench", description="Measures pulls side by side and writes a report.")
    parser.add_argument("--runs", type=int, default=RUNS, help=f"runs of each command (default: {RUNS})")
    parser.add_argument(
        "--allowance",
        type=float,
        default=ALLOWANCE,
        metavar="SECONDS",
        help=f"how long one command of an image may run in all before it is run less often (default: {ALLOWANCE})",
    )
    parser.add_argument(
        "--images",
        default=",".join(images.TITLES),
        metavar="NAME,…",
        help=f"of {', '.join(images.TITLES)} (default: all of these), or one of {', '.join(images.HUGE)}",
    )
    parser.add_argument("--no-playbooks", action="store_true", help="leave out what runs through Ansible")
    parser.add_argument("--output", type=Path, metavar="DIRECTORY", help="where to write the report (default: docs)")
    parser.add_argument("--before", metavar="COMMIT", help="only compare with the code of a commit: ratios, no report")
    parser.add_argument(
        "what",
        nargs="?",
        choices=["report", *ALONE],
        help="report: only write the report of the last run again; inflate: only compare what inflates gzip here; "
        "unchanged: only measure what a task that changes nothing costs a fleet; entries: only measure memory and "
        "CPU time of layers with many files",
    )
    return parser


def _run(arguments: argparse.Namespace) -> Results:
    """Make what is missing, measure, and keep the samples."""
    names = _names(arguments)
    told = f"make bench RUNS={arguments.runs}" + (
        "" if len(names) == len(images.TITLES) else f" IMAGES={','.join(names)}"
    )
    with _ready(names):
        measured = Results(time.strftime("%Y-%m-%d"), told, machine.machine(node.HOST), [], {})
        for name in names:
            measured.comparisons.append(_compare(name, arguments.runs, arguments.allowance))
            record.write(measured, record.last(NAME))
        if not arguments.no_playbooks:
            say("Through Ansible")
            measured.plays.update(playbooks.measure(arguments.runs))
            record.write(measured, record.last(NAME))
    return measured


def _names(arguments: argparse.Namespace) -> list[str]:
    """Return the names of the images that are asked for.

    :raises Failed: if there is no such image, or nothing would run.
    """
    names = [name for name in arguments.images.split(",") if name]
    if unknown := [name for name in names if name not in images.TITLES]:
        raise Failed(f"there is no image {unknown[0]}; there are {', '.join(images.TITLES)}")
    if arguments.runs < 1:
        raise Failed("each command has to run at least once")
    return names


def _ready(names: list[str]) -> AbstractContextManager[None]:
    """Return the context in which the host has what the commands for these images need."""
    say("Bringing up the lab and making the images that are missing, which may take some minutes")
    return node.ready([*map(images.reference, names), *BENCH_TINY[:1]])


def _beside(arguments: argparse.Namespace) -> str:
    """Return the ratios of the code of now to that of a commit."""
    names, lines = _names(arguments), []
    with _ready(names), before.checked_out(arguments.before) as settings:
        for name in names:
            say(f"{name}: preparing")
            lines += before.pulls(name, arguments.runs, arguments.allowance, settings)
        if not arguments.no_playbooks:
            say("Through Ansible")
            lines += before.plays(arguments.runs, settings)
    return before.table(lines)


def _compare(name: str, runs: int, allowance: float) -> Comparison:
    """Run all commands for one image in turn."""
    say(f"{name}: preparing")
    _digest, layers = images.manifest(images.reference(name))
    commands = {each.key: each for each in contenders.prepare(images.reference(name), list(layers))}
    samples: dict[str, list[Sample]] = {key: [] for key in commands}
    times: dict[str, list[float]] = {key: [] for key in commands}
    for number, keys in rounds(times, runs, allowance):
        for key in keys:
            sample = commands[key].run()
            say(f"  {number}/{runs}  {contenders.TITLES[key]:<30} {sample.seconds:6.2f} s")
            samples[key].append(sample)
            times[key].append(sample.seconds)
        if number == 1:
            contenders.check(list(commands.values()))
    image = Image(name, images.TITLES[name], len(layers), sum(layers.values()))
    return Comparison(image, {key: Series(contenders.TITLES[key], samples[key]) for key in commands})


def _whole(measured: Results) -> bool:
    return bool(measured.plays) and {each.image.name for each in measured.comparisons} == set(images.TITLES)


def _write(measured: Results, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    document, plot = directory / "benchmarks.md", directory / "benchmarks.svg"
    document.write_text(report.markdown(measured, plot.name), encoding="utf-8")
    plot.write_text(chart.svg(measured), encoding="utf-8")
    say(f"Wrote {document} and {plot.name}; the samples are in {record.last(NAME)}")


if __name__ == "__main__":
    main()
