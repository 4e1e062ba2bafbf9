# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The file of a measurement. That whole ones come back from it is tested with those of both packages."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.measure import record
from tests.measure.command import Failed
from tests.measure.record import Record


@dataclass(frozen=True)
class Lap:
    """The items of a list in a dict."""

    seconds: float
    steps: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Race(Record):
    """A measurement of laps."""

    laps: dict[str, list[Lap]]


def test_the_last_one_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for seconds in (1.0, 2.0):
        race = Race("2026-01-01", "make race", {"cores": "2"}, {"red": [Lap(seconds), Lap(3.0, {"start": 0.5})]})
        record.write(race, record.last("race"))
        assert record.read(Race, record.last("race")) == race


def test_a_field_that_came_later_has_what_it_has_without_a_word(tmp_path: Path) -> None:
    file = tmp_path / "last.json"
    file.write_text('{"date": "", "command": "", "machine": {}, "laps": {"red": [{"seconds": 1.5}]}}')
    assert record.read(Race, file).laps == {"red": [Lap(1.5, {})]}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"date": "", "moon": 1}'])
def test_another_file_is_refused_by_its_name(tmp_path: Path, text: str) -> None:
    file = tmp_path / "last.json"
    file.write_text(text)
    with pytest.raises(Failed, match=r"last\.json"):
        record.read(Race, file)
