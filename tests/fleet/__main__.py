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
from tests.fleet import chart, report, results, run, strategies
from tests.fleet.results import Image, Results
from tests.lab import hosts, laboratory, oci, paths
from tests.lab.commands import CommandFailed
from tests.lab.oci import RegistryRefused
from tests.lab.processes import DidNotAnswer

DOCS = Path(__file__).parents[2] / "docs"
IMAGES = {
    "science": "MPI, HDF5, SciPy, two compilers and an application",
    "compiler": "Debian with a compiler and an application",
}
COUNTS = (1, 2, 4, 8, 16)

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
        whole = not arguments.report and len(measured.pairs) == len(COUNTS) * len(strategies.TITLES)
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
        "--strategies", default=list(strategies.TITLES), type=lambda text: text.split(","), metavar="NAME,…",
        help=f"of {', '.join(strategies.TITLES)} (default: all)",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, metavar="DIRECTORY", help="where to write the report (default: docs)")
    parser.add_argument("report", nargs="?", choices=["report"], help="only write the tables of docs/fleet.json again")
    return parser


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(sorted(int(word) for word in text.split(",")))


def _measure(arguments: argparse.Namespace) -> Results:
    """Bring up what is missing, and run each strategy on each number of hosts."""
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
    measured = Results(time.strftime("%Y-%m-%d"), command, machine.machine(), image, [])
    _say("Once unmeasured: memory that the machine touches for the first time is slow")
    run.pair(strategies.EACH, image, members[:1], emptied)
    try:
        for strategy in arguments.strategies:
            for count in arguments.hosts:
                pair = run.pair(strategy, image, members[:count], emptied)
                measured.pairs.append(pair)
                _say(
                    f"  {count:>3} hosts  {strategies.TITLES[strategy]:<20} {pair.cold.controller.seconds:7.1f} s, "
                    f"CPU of the hosts {pair.cold.cpu:7.2f} s"
                )
                _keep(measured)
    finally:
        run.make_cold(members, emptied)
    return measured


def _image(name: str) -> Image:
    repository = f"bench/{name}"
    laboratory.push_images([f"{repository}:latest"])
    with oci.Client() as client:
        manifest = client.manifest(oci.reference(f"{repository}:latest"))[0]
    layers = {each["digest"]: each["size"] for each in json.loads(manifest)["layers"]}
    return Image(repository, IMAGES[name], oci.digest_of(manifest), layers)


def _keep(measured: Results) -> None:
    """What was measured is not lost when something later fails."""
    last = paths.lab_dir().parent / "fleet" / "last.json"
    last.parent.mkdir(parents=True, exist_ok=True)
    last.write_text(results.to_json(measured), encoding="utf-8")


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
