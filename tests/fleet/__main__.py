# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``python3 -m tests.fleet [report]``, from the repository's root; ``make fleet`` sets up what it needs."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

from tests import lab
from tests.bench import machine
from tests.fleet import chart, memory, report, results, run, strategies
from tests.fleet.results import Image, Results
from tests.lab import commands, hosts, laboratory, oci, paths, registry
from tests.lab.commands import CommandFailed
from tests.lab.oci import RegistryRefused
from tests.lab.processes import DidNotAnswer

DOCS = Path(__file__).parents[2] / "docs"
IMAGES = {
    "science": "MPI, HDF5, SciPy, two compilers and an application",
    "compiler": "Debian with a compiler and an application",
}
COUNTS = (1, 2, 4, 8, 16)

_COMMON = [each for each in strategies.TITLES if each != strategies.MIRRORED_3]
"""The strategies that need no program that Debian does not have."""

_EXPECTED = (run.Failed, CommandFailed, DidNotAnswer, RegistryRefused, laboratory.NotRoot, OSError, ValueError)


def main() -> int:
    """Run one command."""
    arguments = _parser().parse_args()
    try:
        if arguments.report:
            measured = results.from_json((DOCS / "fleet.json").read_text(encoding="utf-8"))
        else:
            measured = _measure(arguments)
        print(report.terminal(measured))
        whole = not arguments.report and all(
            measured.pair(strategy, count) for strategy in _COMMON for count in strategies.ENOUGH.get(strategy, COUNTS)
        )
        if arguments.report or arguments.output or (whole and measured.image.repository == "bench/science"):
            _write(measured, arguments.output or DOCS)
        else:
            _say("Not all of it was measured, so docs/ stays as it is.")
    except _EXPECTED as error:
        print(f"fleet: {error}", file=sys.stderr)
        return 1
    return 0


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
        raise run.Failed(f"{strategies.MIRRORED_3} needs --registry3 with the program")
    most = max(arguments.hosts)
    first = os.environ.get("SREGISTRY_LAB_FIRST")
    emptied = [strategies.MIRROR]
    if first is None:  # with a number, the lab is up already and others use it, so the store is left alone
        emptied.append(strategies.STORE)
        _say("Bringing up the lab and making the image if it is missing, which may take some minutes")
        lab.up(host_count=most)
    members = [hosts.Host(int(first or 1) + number) for number in range(most)]
    image = _image(arguments.image)
    command = "make fleet" + ("" if arguments.hosts == COUNTS else f" HOSTS={','.join(map(str, arguments.hosts))}")
    if arguments.registry3:
        command += ' ARGS="--registry3 PROGRAM"'
    measured = Results(time.strftime("%Y-%m-%d"), command, machine.machine(), image, [])
    if arguments.resume:
        measured = results.from_json(_last().read_text(encoding="utf-8"))
        if measured.image != image:
            raise run.Failed(
                f"the last measurement is of {measured.image.repository}; start anew for {image.repository}"
            )
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
                _say(
                    f"  {count:>3} hosts  {strategies.TITLES[strategy]:<20} {pair.cold.controller.seconds:7.1f} s, "
                    f"CPU of the hosts {pair.cold.cpu:7.2f} s"
                )
                _keep(measured)
    finally:
        registry.use(strategies.MIRROR, registry.DEBIANS)
        run.make_cold(members, emptied)
    return measured


def _version(program: str) -> str:
    """What a registry says of itself.

    :raises run.Failed: it is none of Distribution 3.
    """
    said = commands.output_of([program, "--version"]).decode().split()
    if len(said) < 3 or not said[2].lstrip("v").startswith("3."):
        raise run.Failed(f"{program} is no registry of Distribution 3: {' '.join(said)}")
    return said[2]


def _image(name: str) -> Image:
    repository = f"bench/{name}"
    laboratory.push_images([f"{repository}:latest"])
    with oci.Client() as client:
        manifest = client.manifest(oci.reference(f"{repository}:latest"))[0]
    layers = {each["digest"]: each["size"] for each in json.loads(manifest)["layers"]}
    return Image(repository, IMAGES[name], oci.digest_of(manifest), layers)


def _keep(measured: Results) -> None:
    """What was measured is not lost when something later fails."""
    _last().parent.mkdir(parents=True, exist_ok=True)
    _last().write_text(results.to_json(measured), encoding="utf-8")


def _last() -> Path:
    return paths.lab_dir().parent / "fleet" / "last.json"


def _write(measured: Results, directory: Path) -> None:
    document = DOCS / "fleet.md"
    text = report.write(document.read_text(encoding="utf-8"), measured)
    (directory / "fleet.md").write_text(text, encoding="utf-8")
    (directory / "fleet.svg").write_text(chart.svg(measured), encoding="utf-8")
    (directory / "fleet.json").write_text(results.to_json(measured), encoding="utf-8")
    _say(f"Wrote fleet.md, fleet.svg and fleet.json in {directory}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
