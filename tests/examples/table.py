# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table ``table.yml``: how each example is treated that does not simply run as it stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.examples.blocks import Block

TABLE = Path(__file__).with_name("table.yml")
Tasks = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Treatment:
    """The treatment of one example.

    ``check`` says why it does not run in the lab, and ``without`` the same of single tasks, by their names.

    For what runs: tasks run on ``hosts``, after facts were gathered if ``facts``. ``before`` makes what the example
    takes for granted, ``variables`` and ``environment`` are what it leaves to the reader, ``replace`` gives the text to
    put in the place of another. ``after`` asserts the result, and ``again`` names the tasks that change
    something in each run.
    """

    check: str = ""
    without: Mapping[str, str] = field(default_factory=dict)
    hosts: str = "node1"
    facts: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, Any] = field(default_factory=dict)
    replace: Mapping[str, str] = field(default_factory=dict)
    before: Tasks = ()
    after: Tasks = ()
    again: Sequence[str] = ()


@dataclass(frozen=True)
class Table:
    """All treatments by document and title, and the variables that all examples have."""

    variables: Mapping[str, Any]
    treatments: Mapping[tuple[str, str], Treatment]

    def of(self, block: Block) -> Treatment:
        """Return how to treat the example; one without an entry runs as it stands."""
        return self.treatments.get((block.document, block.title), Treatment())


@cache
def table() -> Table:
    """Read the table.

    :raises TypeError: an entry has a key that means nothing.
    :raises KeyError: ``before`` names steps that are not there.
    """
    data = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    treatments = {
        (document, title): Treatment(**{**entry, "before": _steps(entry.get("before", []), data["steps"])})
        for document, entries in data["examples"].items()
        for title, entry in entries.items()
    }
    return Table(data["variables"], treatments)


def _steps(before: Sequence[Any], known: Mapping[str, Tasks]) -> Tasks:
    """Put the steps that ``before`` names in the place of their names."""
    return tuple(task for each in before for task in (known[each] if isinstance(each, str) else [each]))
