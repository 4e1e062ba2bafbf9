# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The order in which the benchmark runs its commands."""

from __future__ import annotations

import pytest

from tests.bench.rounds import rotated, rounds, wanted


def carried_out(costs: dict[str, float], runs: int, allowance: float) -> list[tuple[int, list[str]]]:
    times: dict[str, list[float]] = {key: [] for key in costs}
    done = []
    for number, keys in rounds(times, runs, allowance):
        done.append((number, keys))
        for key in keys:
            times[key].append(costs[key])
    return done


def test_each_command_has_each_place_once() -> None:
    assert carried_out({"a": 1, "b": 1, "c": 1}, 3, 100) == [
        (1, ["a", "b", "c"]),
        (2, ["b", "c", "a"]),
        (3, ["c", "a", "b"]),
    ]


def test_a_slow_command_leaves_the_later_rounds_to_the_others() -> None:
    order = carried_out({"slow": 150, "quick": 1}, 4, 120)
    assert [keys for _number, keys in order] == [["slow", "quick"], ["quick", "slow"], ["quick"], ["quick"]]


@pytest.mark.parametrize(
    ("seconds", "again"),
    [
        ([], True),
        ([500.0], True),
        ([500.0, 500.0], False),
        ([50.0, 50.0], True),
        ([60.0, 60.0], False),
        ([1.0] * 5, False),
    ],
)
def test_a_command_runs_twice_whatever_it_takes(seconds: list[float], again: bool) -> None:
    assert wanted(seconds, 5, 120) is again


def test_one_run_is_enough_where_one_is_asked_for() -> None:
    assert carried_out({"slow": 500}, 1, 120) == [(1, ["slow"])]


def test_a_rotation_may_go_round_more_than_once() -> None:
    assert rotated("abc", 4) == ["b", "c", "a"]
