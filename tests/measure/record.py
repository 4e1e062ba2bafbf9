# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records of measurements, to and from JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from tests.lab import paths
from tests.measure.command import Failed


@dataclass(frozen=True)
class Record:
    """The time, command and place of a measurement; each package adds its own figures.

    Their types are dataclasses, lists and dicts of these, and what JSON has itself.
    """

    date: str
    command: str
    machine: dict[str, str]


R = TypeVar("R", bound=Record)


def last(name: str) -> Path:
    """Return the file of a command's last record, so that what was measured is not lost when something later fails."""
    return paths.home() / name / "last.json"


def write(record: Record, file: Path) -> None:
    """Write a record to a file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(asdict(record), indent=1) + "\n", encoding="utf-8")


def read(kind: type[R], file: Path) -> R:
    """Read what :func:`write` wrote.

    :raises Failed: something else is in the file.
    """
    try:
        record: R = _made(kind, json.loads(file.read_text(encoding="utf-8")))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise Failed(f"{file} holds no such measurement: {error!r}") from error
    return record


def _made(kind: Any, value: Any) -> Any:
    """Make a value of some type from its form in JSON."""
    if is_dataclass(kind):
        types = get_type_hints(kind)
        return kind(**{name: _made(types[name], each) for name, each in value.items()})  # type: ignore[operator]
    if get_origin(kind) is list:
        return [_made(get_args(kind)[0], each) for each in value]
    if get_origin(kind) is dict:
        return {key: _made(get_args(kind)[1], each) for key, each in value.items()}
    return value
