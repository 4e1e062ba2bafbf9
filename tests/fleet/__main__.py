# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``python3 -m tests.fleet [report]``, from the repository's root; ``make fleet`` sets up what it needs."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from tests import lab
from tests.fleet import chart, memory, report, run, strategies
from tests.fleet.results import Image, Results
from tests.lab import commands, hosts, laboratory, paths, registry
from tests.measure import command, images, machine, record
from tests.measure.command import DOCS, Failed, say

NAME = "fleet"
IMAGES = ("science", "compiler")
COUNTS = (1, 2, 4, 8, 16)

_COMMON = [each for each in strategies.TITLES if each != strategies.MIRRORED_3]
"""The strategies that need no program that Debian does not have."""


def main() -> None:
    """Run one command."""
    arguments = _parser().parse_args()
    with command.run(NAME):
        measured = record.read(Results, DOCS / "fleet.json") if arguments.report else _measure(arguments)
        print(report.terminal(measured))
        if arguments.report or arguments.output or _whole(measured):
            _write(measured, arguments.output or DOCS)
        else:
            say("Not all of it was measured, so docs/ stays as it is.")


def _whole(measured: Results) -> bool:
    pairs = ((strategy, count) for strategy in _COMMON for count in strategies.ENOUGH.get(strategy, COUNTS))
    return measured.image.repository == "bench/science" and all(measured.pair(*each) for each in pairs)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make fleet", description="Measures how images come to a fleet.")
    parser.add_argument("--image", default="science", choices=IMAGES, help="what to bring there (default: science)")
    parser.add_argument(
        "--hosts", default=COUNTS, type=_numbers, metavar="N,…", help="how many hosts (default: 1,2,4,8,16)"
    )
    parser.add_argument(
        "--strategies", type=lambda text: text.split(","), metavar="NAME,…",
        help=f"of {', '.join(strategies.TITLES)} (default: all that can be run)",
    )  # fmt: skip
    parser.add_argument(
        "--registry3", metavar="PROGRAM", help=f"registry of Distribution 3, which {strategies.MIRRORED_3} needs"
    )
    parser.add_argument("--output", type=Path, metavar="DIRECTORY", help="where to write the report (default: docs)")
    parser.add_argument("--resume", action="store_true", help="go on with the last one: what it has is not run again")
    parser.add_argument("report", nargs="?", choices=["report"], help="only write the tables of docs/fleet.json again")
    return parser


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(sorted(int(word) for word in text.split(",")))


def _measure(arguments: argparse.Namespace) -> Results:
    """Bring up what is missing, and run each strategy on each number of hosts."""
    chosen = arguments.strategies or (list(strategies.TITLES) if arguments.registry3 else _COMMON)
    if strategies.MIRRORED_3 in chosen and not arguments.registry3:
        raise Failed(f"{strategies.MIRRORED_3} needs --registry3 with the program")
    most = max(arguments.hosts)
    first = os.environ.get("SREGISTRY_LAB_FIRST")
    emptied = [strategies.MIRROR]
    if first is None:  # with a number, the lab is up already and others use it, so the store is left alone
        emptied.append(strategies.STORE)
        say("Bringing up the lab and making the image if it is missing, which may take some minutes")
        lab.up(host_count=most)
    members = [hosts.Host(int(first or 1) + number) for number in range(most)]
    image = _image(arguments.image)
    told = "make fleet" + ("" if arguments.hosts == COUNTS else f" HOSTS={','.join(map(str, arguments.hosts))}")
    if arguments.registry3:
        told += ' ARGS="--registry3 PROGRAM"'
    measured = Results(time.strftime("%Y-%m-%d"), told, machine.machine(members[0]), image, [])
    if arguments.resume:
        measured = record.read(Results, record.last(NAME))
        if measured.image != image:
            raise Failed(f"the last measurement is of {measured.image.repository}; start anew for {image.repository}")
    if arguments.registry3:
        measured.machine["registry of version 3"] = _version(arguments.registry3)
    wanted = [
        (strategy, count)
        for strategy in chosen
        for count in strategies.ENOUGH.get(strategy, arguments.hosts)
        if not measured.pair(strategy, count)
    ]
    try:
        with memory.filler(paths.lab_dir()) as filler:
            for strategy, count in wanted:
                registry.use(
                    strategies.MIRROR,
                    arguments.registry3 if strategy == strategies.MIRRORED_3 else registry.DEBIANS,
                )
                pair = run.pair(strategy, image, members[:count], emptied, filler)
                measured.pairs.append(pair)
                say(
                    f"  {count:>3} hosts  {strategies.TITLES[strategy]:<20} {pair.cold.controller.seconds:7.1f} s, "
                    f"CPU of the hosts {pair.cold.cpu:7.2f} s"
                )
                record.write(measured, record.last(NAME))
    finally:
        registry.use(strategies.MIRROR, registry.DEBIANS)
        run.make_cold(members, emptied)
    return measured


def _version(program: str) -> str:
    """Return the registry's own words about its version.

    :raises Failed: it is none of Distribution 3.
    """
    said = commands.output_of([program, "--version"]).decode().split()
    if len(said) < 3 or not said[2].lstrip("v").startswith("3."):
        raise Failed(f"{program} is no registry of Distribution 3: {' '.join(said)}")
    return said[2]


def _image(name: str) -> Image:
    reference = images.reference(name)
    laboratory.push_images([reference])
    return Image(reference.rpartition(":")[0], images.TITLES[name], *images.manifest(reference))


def _write(measured: Results, directory: Path) -> None:
    document = DOCS / "fleet.md"
    text = report.write(document.read_text(encoding="utf-8"), measured)
    (directory / "fleet.md").write_text(text, encoding="utf-8")
    (directory / "fleet.svg").write_text(chart.svg(measured), encoding="utf-8")
    record.write(measured, directory / "fleet.json")
    say(f"Wrote fleet.md, fleet.svg and fleet.json in {directory}")


if __name__ == "__main__":
    main()
