# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make one playbook of many examples: each of them prepared, played, played again, and looked at afterwards."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from tests.examples.blocks import PLAY, PLAYS, ROLES, Block
from tests.examples.table import Table, Treatment

BEFORE, FIRST, SECOND, AFTER = "before", "first", "second", "after"
_SEPARATOR = " | "
_RESCUE = {"name": "It failed", "ansible.builtin.debug": {"msg": "the examples that follow still run"}}
Play = dict[str, Any]


@dataclass(frozen=True)
class Result:
    """The result of one task on one host."""

    task: str
    host: str
    changed: bool
    failed: bool
    error: str


@dataclass(frozen=True)
class Played:
    """The results of one example, by the part of the playbook that they belong to."""

    parts: Mapping[str, tuple[Result, ...]]

    def of(self, part: str) -> tuple[Result, ...]:
        """Return the results of one part, in the order in which they came."""
        return self.parts.get(part, ())

    @property
    def failures(self) -> list[str]:
        """Each failure of whatever part, in words."""
        return [
            f"{part}: {each.task} on {each.host}: {each.error}"
            for part, results in self.parts.items()
            for each in results
            if each.failed
        ]


def book(blocks: Iterable[Block], table: Table) -> list[Play]:
    """Make the plays of all examples that run."""
    return [play for block in blocks for play in _all_parts(block, table)]


def syntax_book(blocks: Iterable[Block]) -> list[Play]:
    """Make plays of examples that are only to be read by Ansible, as they stand."""
    return [play for block in blocks for play in plays_of(block, Treatment(), block.place)]


def read(results: Path) -> dict[str, Played]:
    """Read what the callback wrote, by the place of the example."""
    found: dict[str, dict[str, list[Result]]] = {}
    for line in results.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        place, part = entry.pop("play").split(_SEPARATOR)[:2]
        found.setdefault(place, {}).setdefault(part, []).append(Result(**entry))
    return {place: Played({part: tuple(results) for part, results in parts.items()}) for place, parts in found.items()}


def plays_of(block: Block, treatment: Treatment, title: str) -> list[Play]:
    """Make plays of an example of whatever kind; each is called as ``title``, and then as in the example."""
    text = block.text
    for old, new in treatment.replace.items():
        if old not in text:
            raise ValueError(f"{block.place}: the table replaces {old!r}, which is not there")
        text = text.replace(old, new)
    data = yaml.safe_load(text)
    of_table: Play = {"hosts": treatment.hosts, "gather_facts": treatment.facts}
    if block.kind == PLAYS:
        plays = [dict(play) for play in data]
    elif block.kind == PLAY:
        plays = [{**of_table, **data}]
    elif block.kind == ROLES:
        plays = [{**of_table, "roles": data}]
    else:
        plays = [{**of_table, "tasks": data}]
    return [_named(play, treatment, title) for play in plays]


def _named(play: Play, treatment: Treatment, title: str) -> Play:
    play["name"] = _SEPARATOR.join([title, play.get("name", "an example")])
    play["vars"] = {**treatment.variables, **play.get("vars", {})}
    play["gather_subset"] = ["min"]  # all that the examples need, and much faster
    play["environment"] = {**treatment.environment, **play.get("environment", {})}
    if "tasks" in play:
        tasks = [task for task in play["tasks"] if task.get("name") not in treatment.without]
        play["tasks"] = [{"name": "The example", "block": tasks, "rescue": [_RESCUE]}]
    return play


def _all_parts(block: Block, table: Table) -> list[Play]:
    treatment = table.of(block)
    plays = [
        *_own_part(treatment.before, treatment, f"{block.place}{_SEPARATOR}{BEFORE}"),
        *plays_of(block, treatment, f"{block.place}{_SEPARATOR}{FIRST}"),
        *plays_of(block, treatment, f"{block.place}{_SEPARATOR}{SECOND}"),
        *_own_part(treatment.after, treatment, f"{block.place}{_SEPARATOR}{AFTER}"),
    ]
    return [{**play, "vars": {**table.variables, **play["vars"]}} for play in plays]


def _own_part(tasks: Iterable[Mapping[str, Any]], treatment: Treatment, title: str) -> list[Play]:
    if not tasks:
        return []
    play: Play = {"hosts": treatment.hosts, "gather_facts": treatment.facts, "tasks": [dict(task) for task in tasks]}
    return [_named(play, replace(treatment, without={}), title)]
