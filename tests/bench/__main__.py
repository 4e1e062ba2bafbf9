# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``python3 -m tests.bench [run|report]``, from the repository's root; ``make bench`` sets up what it needs."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from tests import lab
from tests.bench import chart, contenders, machine, node, playbooks, report, results
from tests.bench.results import Comparison, Image, Results, Sample, Series
from tests.bench.rounds import rounds
from tests.lab import laboratory, oci
from tests.lab.catalogue import BENCH_TINY
from tests.lab.commands import CommandFailed
from tests.lab.oci import RegistryRefused
from tests.lab.processes import DidNotAnswer

DOCS = Path(__file__).parents[2] / "docs"
IMAGES = {
    "compiler": "Debian with a compiler and an application",
    "science": "MPI, HDF5, SciPy, two compilers and an application",
    "files": "60,000 small files",
    "single": "MPI, HDF5, SciPy and a compiler in one single layer",
}
RUNS, ALLOWANCE = 5, 90

_EXPECTED = (node.Failed, CommandFailed, DidNotAnswer, RegistryRefused, laboratory.NotRoot, OSError)


def main() -> int:
    """Run one command."""
    arguments = _parser().parse_args()
    try:
        measured = (
            results.from_json(results.last().read_text(encoding="utf-8")) if arguments.report else _run(arguments)
        )
    except _EXPECTED as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    print(report.terminal(measured))
    if arguments.output or _whole(measured):
        _write(measured, arguments.output or DOCS)
    else:
        node.say("Not all of it was measured, so docs/ stays as it is.")
    return 0


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
        "--images", default=",".join(IMAGES), metavar="NAME,…", help=f"of {', '.join(IMAGES)} (default: all)"
    )
    parser.add_argument("--no-playbooks", action="store_true", help="leave out what runs through Ansible")
    parser.add_argument("--output", type=Path, metavar="DIRECTORY", help="where to write the report (default: docs)")
    parser.add_argument("report", nargs="?", choices=["report"], help="only write the report of the last run again")
    return parser


def _run(arguments: argparse.Namespace) -> Results:
    """Make what is missing, measure, and keep the samples."""
    names = [name for name in arguments.images.split(",") if name]
    if unknown := [name for name in names if name not in IMAGES]:
        raise node.Failed(f"there is no image {unknown[0]}; there are {', '.join(IMAGES)}")
    if arguments.runs < 1:
        raise node.Failed("each command has to run at least once")
    node.say("Bringing up the lab and making the images that are missing, which may take some minutes")
    lab.up(host_count=1)
    laboratory.push_images([*(f"bench/{name}" for name in names), *BENCH_TINY[:1]])
    node.prepare()
    command = f"make bench RUNS={arguments.runs}" + ("" if len(names) == len(IMAGES) else f" IMAGES={','.join(names)}")
    measured = Results(time.strftime("%Y-%m-%d"), command, machine.machine(), [], {})
    try:
        for name in names:
            measured.comparisons.append(_compare(name, arguments.runs, arguments.allowance))
            _keep(measured)
        if not arguments.no_playbooks:
            node.say("Through Ansible")
            measured.plays.update(playbooks.measure(arguments.runs))
            _keep(measured)
    finally:
        node.clear()
    return measured


def _keep(measured: Results) -> None:
    """What was measured is not lost when something later fails."""
    results.last().parent.mkdir(parents=True, exist_ok=True)
    results.last().write_text(results.to_json(measured), encoding="utf-8")


def _compare(name: str, runs: int, allowance: float) -> Comparison:
    """Run all commands for one image in turn."""
    reference = f"bench/{name}:latest"
    node.say(f"{name}: preparing")
    with oci.Client() as client:
        layers = json.loads(client.manifest(oci.reference(reference))[0])["layers"]
    commands = {each.key: each for each in contenders.prepare(reference, [layer["digest"] for layer in layers])}
    samples: dict[str, list[Sample]] = {key: [] for key in commands}
    times: dict[str, list[float]] = {key: [] for key in commands}
    for number, keys in rounds(times, runs, allowance):
        for key in keys:
            sample = commands[key].run()
            node.say(f"  {number}/{runs}  {contenders.TITLES[key]:<30} {sample.seconds:6.2f} s")
            samples[key].append(sample)
            times[key].append(sample.seconds)
        if number == 1:
            contenders.check(list(commands.values()))
    image = Image(name, IMAGES[name], len(layers), sum(layer["size"] for layer in layers))
    return Comparison(image, {key: Series(contenders.TITLES[key], samples[key]) for key in commands})


def _whole(measured: Results) -> bool:
    return bool(measured.plays) and {each.image.name for each in measured.comparisons} == set(IMAGES)


def _write(measured: Results, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    document, plot = directory / "benchmarks.md", directory / "benchmarks.svg"
    document.write_text(report.markdown(measured, plot.name), encoding="utf-8")
    plot.write_text(chart.svg(measured), encoding="utf-8")
    node.say(f"Wrote {document} and {plot.name}; the samples are in {results.last()}")


if __name__ == "__main__":
    sys.exit(main())
