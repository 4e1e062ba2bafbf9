# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Running system programs, with their output in a log of the lab."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.lab import paths


class CommandFailed(Exception):
    """A program ended with an error; the message has its last lines."""


def run(argv: Sequence[str | Path], log: str, env: Mapping[str, str] | None = None) -> None:
    """Run ``argv`` and append what it prints to ``logs/<log>.log``; raise :class:`CommandFailed` on an error.

    It runs in a session of its own: mmdebstrap, when it fails, signals its whole process group.
    """
    file = paths.logs() / f"{log}.log"
    with file.open("ab") as output:
        output.write(("$ " + " ".join(map(str, argv)) + "\n").encode())
        output.flush()
        begin = output.tell()
        code = subprocess.run(
            [str(word) for word in argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            start_new_session=True,
            check=False,
        ).returncode
    if code:
        raise CommandFailed(f"{argv[0]} ended with {code}; the end of {file}:\n{_tail(file, begin)}")


def output_of(argv: Sequence[str | Path], stdin: bytes | None = None) -> bytes:
    """Return the standard output of ``argv``; raise :class:`CommandFailed` on an error."""
    done = subprocess.run([str(word) for word in argv], input=stdin, capture_output=True, check=False)
    if done.returncode:
        raise CommandFailed(f"{argv[0]} ended with {done.returncode}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def _tail(file: Path, begin: int, lines: int = 15) -> str:
    with file.open("rb") as stream:
        stream.seek(begin)
        return "\n".join(stream.read().decode(errors="replace").splitlines()[-lines:])
