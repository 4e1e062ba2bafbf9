# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``python3 -m tests.lab up|down|status|images|move|empty|packages|packers|clean``, from the repository's root."""

from __future__ import annotations

import argparse
import signal
import sys
import time

from tests.lab import images, laboratory, packers, paths
from tests.lab.commands import CommandFailed
from tests.lab.hosts import SSH_PORT
from tests.lab.images import UnknownImage
from tests.lab.oci import RegistryRefused
from tests.lab.processes import DidNotAnswer
from tests.lab.registry import REGISTRIES, TOKEN_PORT

_EXPECTED = (CommandFailed, DidNotAnswer, RegistryRefused, UnknownImage, laboratory.NotRoot, OSError)


def main() -> int:
    """Run one command."""
    arguments = _parser().parse_args()
    begin = time.monotonic()
    # An interrupt ends everything at once: what is being built dies with this process, and is built anew next time.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        text = arguments.run(arguments)
    except _EXPECTED as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    print(text)
    if arguments.command != "status":
        print(f"{arguments.command}: {time.monotonic() - begin:.1f} s")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 -m tests.lab", description="The lab: registries, images and hosts.")
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="build what is missing, start what does not run")
    up.add_argument("--hosts", type=int, default=2, metavar="N", help="how many hosts (default: 2)")
    up.add_argument("--keep", action="store_true", help="hosts that start keep the files of their last run")
    up.set_defaults(run=lambda given: _summary(laboratory.up(given.hosts, given.keep)))
    down = commands.add_parser("down", help="stop everything, keep what was built")
    down.set_defaults(run=lambda given: "stopped: " + (" ".join(laboratory.down()) or "nothing ran"))
    status = commands.add_parser("status", help="what runs and what is there")
    status.set_defaults(run=lambda given: _summary(laboratory.status()))
    pushing = commands.add_parser("images", help="list the images; with names, push those (lab/large: on demand)")
    pushing.add_argument("repository", nargs="*")
    pushing.set_defaults(run=lambda given: _images(given.repository))
    move = commands.add_parser("move", help="let a tag name what another one names")
    move.add_argument("target")
    move.add_argument("source")
    move.set_defaults(run=lambda given: f"{given.target} is {laboratory.move(given.target, given.source)}")
    emptying = commands.add_parser("empty", help="let registries with a storage of their own begin again with nothing")
    emptying.add_argument("registry", nargs="+", choices=[each.name for each in REGISTRIES.values() if each.own])
    emptying.set_defaults(run=lambda given: _emptied(given.registry))
    packages = commands.add_parser("packages", help="install the Debian packages that lab and tests need")
    packages.set_defaults(run=lambda given: "installed: " + (" ".join(laboratory.install()) or "nothing, all there"))
    packing = commands.add_parser("packers", help="several releases of mksquashfs, each with its own libraries")
    packing.add_argument("suite", nargs="*", help=f"Debian's suites (default: {' '.join(packers.SUITES)})")
    packing.set_defaults(run=lambda given: _packers(tuple(given.suite) or packers.SUITES))
    clean = commands.add_parser("clean", help="stop everything and remove the lab directory")
    clean.set_defaults(run=lambda given: _clean())
    return parser


def _summary(status: laboratory.Status) -> str:
    lines = [f"lab directory  {paths.lab_dir()}", f"inventory      {paths.inventory()}", ""]
    for name, runs in status.registries.items():
        registry = REGISTRIES[name]
        lines.append(f"{name:<10} {_word(runs):<8} {registry.url:<24} {registry.login}")
    lines.append(f"{'tokens':<10} {_word(status.tokens):<8} https://127.0.0.1:{TOKEN_PORT}/token")
    for host in status.hosts:
        lines.append(f"{host.name:<10} {_word(True):<8} {host.address}:{SSH_PORT:<14} root, hpc by key")
    lines += ["", f"images         {len(status.images)} tags; `python3 -m tests.lab images` lists them"]
    return "\n".join(lines)


def _images(repositories: list[str]) -> str:
    if repositories:
        return "pushed: " + (" ".join(laboratory.push_images(repositories)) or "nothing, all there")
    return "\n".join(images.listing())


def _emptied(names: list[str]) -> str:
    laboratory.empty(*names)
    return "emptied: " + " ".join(names)


def _packers(suites: tuple[str, ...]) -> str:
    there, missing = packers.packers(suites)
    lines = [f"{each.suite:<10} {each.version:<8} {each.program()}" for each in there]
    return "\n".join([*lines, *(f"{suite:<10} missing  {why}" for suite, why in missing.items())])


def _clean() -> str:
    laboratory.clean()
    return f"removed {paths.lab_dir()}"


def _word(runs: bool) -> str:
    return "runs" if runs else "stopped"


if __name__ == "__main__":
    sys.exit(main())
