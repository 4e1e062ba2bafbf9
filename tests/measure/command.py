# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A command that measures: where it writes, what it says meanwhile, how it fails."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.lab.commands import CommandFailed
from tests.lab.laboratory import NotRoot
from tests.lab.oci import RegistryRefused
from tests.lab.processes import DidNotAnswer

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


class Failed(Exception):
    """Something went wrong that makes figures meaningless."""


@contextmanager
def run(name: str) -> Iterator[None]:
    """Run a block as a whole command: what may go wrong ends it with one message.

    :raises SystemExit: it did.
    """
    try:
        yield
    except (Failed, CommandFailed, DidNotAnswer, RegistryRefused, NotRoot, OSError) as error:
        raise SystemExit(f"{name}: {error}") from error


def say(text: str) -> None:
    """Tell the user what is being done."""
    print(text, file=sys.stderr, flush=True)


def in_own_process(module: str, *arguments: object) -> dict[str, Any]:
    """Run a module of the tests as a program, and return the JSON object that it prints.

    :raises CalledProcessError: if it ends with an error.
    """
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, cwd=ROOT, check=True)
    printed: dict[str, Any] = json.loads(done.stdout)
    return printed
