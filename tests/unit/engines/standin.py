# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stand-ins for the engines: each accepts what one version's own source says that it accepts, and refuses the rest.

``versions/`` has a file for each: the options of its commands with their short forms, ``=`` where a value follows, and
the variables that it reads, with and without a prefix. They were read out of the release's source, which the first
line names, and know nothing of the table that they test.

A stand-in is this file itself, as a program: it looks for the description of its version beside itself, writes down how
it was called, and answers with what a test has put there.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VERSIONS = Path(__file__).parent / "versions"
NAMES = tuple(sorted(path.stem for path in VERSIONS.glob("*.txt")))
LANDMARKS = (  # before and after each change of what this collection uses
    *("singularity-3.5.3", "singularity-3.7.4", "singularity-ce-3.8.4", "singularity-ce-3.11.5"),
    *("singularity-ce-4.0.3", "singularity-ce-4.5.1", "apptainer-1.0.3", "apptainer-1.2.5", "apptainer-1.4.5"),
)
COUNTS = {"build": 2, "inspect": 1, "sign": 1, "verify": 1, "key import": 1, "key list": 0}  # arguments after options


@dataclass(frozen=True)
class Description:
    """The words of one version: the options of each command, whether each takes a value, and variables."""

    options: dict[str, dict[str, bool]]
    variables: frozenset[str]

    @classmethod
    def read(cls, path: Path) -> Description:
        """Read one file of ``versions/``."""
        options: dict[str, dict[str, bool]] = {}
        variables: set[str] = set()
        for line in re.sub(r"\n  ", " ", path.read_text()).splitlines():
            what, _colon, words = line.partition(": ")
            if line.startswith("#"):
                continue
            if what.startswith("reads"):
                variables.update(what[len("reads") :].strip() + word for word in words.split())
                continue
            for command in what.split(", "):
                known = options.setdefault(command, {})
                known.update(
                    {form: word.endswith("=") for word in words.split() for form in word.strip("=").split("/")}
                )
        return cls(options, frozenset(variables))

    def refusal(self, arguments: list[str], variables: Collection[str] = ()) -> str | None:
        """Return its message if it does not accept a call; it is silent about variables that it never reads."""
        command = _command(arguments)
        if command not in self.options:
            return f'Error: unknown command "{command}"'
        rest = arguments[len(command.split()) :]
        while rest and rest[0].startswith("-"):
            option = rest.pop(0)
            if option not in self.options[command]:
                return f'Error for command "{command}": unknown flag: {option}'
            if self.options[command][option] and not rest:
                return f'Error for command "{command}": flag needs an argument: {option}'
            del rest[: self.options[command][option]]
        count = COUNTS.get(command)
        if len(rest) != count if count is not None else not rest:
            return f'Error for command "{command}": accepts {count} arg(s), received {len(rest)}'
        read = self.variables | {"TMPDIR", "SSL_CERT_FILE"}
        passed = ("SINGULARITYENV_", "APPTAINERENV_")[any(name.startswith("APPTAINER") for name in self.variables)]
        strange = [name for name in variables if name not in read and not name.startswith(passed)]
        return f"nothing reads {strange}" if strange else None


def _command(arguments: list[str]) -> str:
    return " ".join(arguments[: 2 if arguments[:1] == ["key"] else 1])


@dataclass(frozen=True)
class StandIn:
    """A stand-in that a test has installed."""

    path: Path
    name: str
    description: Description

    @property
    def kind(self) -> str:
        """Return the kind of engine that it stands for."""
        return self.name.rpartition("-")[0]

    @property
    def version(self) -> str:
        """Return the version that it stands for."""
        return self.name.rpartition("-")[2]

    def answers(self, command: str, output: str = "", errors: str = "", status: int = 0) -> None:
        """Set its answer from now on when a command is accepted."""
        self._beside(f"{command}.json").write_text(json.dumps([output, errors, status]))

    @property
    def calls(self) -> list[dict[str, Any]]:
        """Return the calls: ``arguments``, ``variables``, ``input`` and ``files``, the oldest first."""
        record = self._beside("calls")
        return [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []

    def _beside(self, name: str) -> Path:
        return self.path.parent / name


def install(name: str, directory: Path) -> StandIn:
    """Put a stand-in into a directory of its own."""
    directory.mkdir()
    description = VERSIONS / f"{name}.txt"
    shutil.copy(description, directory / "description")
    path = directory / ("apptainer" if name.startswith("apptainer") else "singularity")
    path.write_text(f"#!{sys.executable} -IS\n{Path(__file__).read_text()}")
    path.chmod(0o755)
    (directory / "name").write_text(name)
    return StandIn(path, name, Description.read(description))


def main(beside: Path, arguments: list[str]) -> int:
    """Answer as the version does: accept or refuse, and say what the test wants."""
    name, _dash, version = (beside / "name").read_text().rpartition("-")
    if arguments == ["--version"]:
        print(f"{name} version {version}")
        return 0
    description = Description.read(beside / "description")
    own = {
        key: value
        for key, value in os.environ.items()
        if key.startswith(("APPTAINER", "SINGULARITY", "DOCKER_")) or key in ("TMPDIR", "SSL_CERT_FILE")
    }
    refusal = description.refusal(arguments, own)
    if refusal:
        print(refusal, file=sys.stderr)
        return 1
    files = {
        option: [oct(os.stat(value).st_mode & 0o777), Path(value).read_text()]
        for option, value in itertools.pairwise(arguments)
        if option.endswith("-file")
    }
    call = {"arguments": arguments, "variables": own, "input": sys.stdin.read(), "files": files}
    with open(beside / "calls", "a") as record:
        record.write(json.dumps(call) + "\n")
    answer = beside / f"{_command(arguments)}.json"
    output, errors, status = json.loads(answer.read_text()) if answer.exists() else ("", "", 0)
    sys.stdout.write(output)
    sys.stderr.write(errors)
    return int(status)


if __name__ == "__main__":
    sys.exit(main(Path(__file__).parent, sys.argv[1:]))
