# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lines about one host or about many: what they say, how often, and who says them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.pull.progress import Progress
from ansible_collections.hpc.sregistry.plugins.plugin_utils._internal.display import progress as module
from ansible_collections.hpc.sregistry.plugins.plugin_utils._internal.display.progress import (
    Board,
    HostRow,
    Meter,
    Report,
    follow,
    seconds_to_next_look,
    summary_line,
)

MIB = 1024 * 1024
FETCHING = Report(
    at=10.0,
    images=1,
    image="org/app:1",
    step="fetch",
    since=8.0,
    fetched=120 * MIB,
    to_fetch=546 * MIB,
    blobs=5,
    arrived=3,
    to_read=600 * MIB,
)
PACKING = replace(FETCHING, step="pack", since=21.0, fetched=546 * MIB, arrived=5, read=300 * MIB)
UNPACKING = replace(PACKING, step="unpack", read=600 * MIB)
RATE = 60.0 * MIB


# Reports


def test_a_report_is_what_a_run_tells() -> None:
    state = Progress().state()
    assert set(state) == set(asdict(Report()))
    state.update(fetched=5, to_fetch=None, image="org/app:1")
    assert Report.parse(json.dumps(state)) == Report(fetched=5, to_fetch=None, image="org/app:1")


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "null", "1", "[" * 10**5),
        *('{"images": "x"}', '{"at": []}', '{"at": NaN}', '{"at": Infinity}', '{"read": 1e999}', '{"read": null}'),
        *('{"fetched": -5}', f'{{"blobs": {10**50}}}'),
    ],
)
def test_what_is_no_report_is_none(text: str) -> None:
    assert Report.parse(text) is None


@pytest.mark.parametrize(
    ("told", "report"),
    [
        ({"image": "a\x1b[2J\nb\u202e"}, Report(image="a?[2J?b?")),
        ({"step": "x" * 1000}, Report(step="x" * 200)),
        ({"unknown": 1, "read": 2.7}, Report(read=2)),
    ],
    ids=["control characters", "long", "unknown"],
)
def test_a_host_is_not_trusted(told: dict[str, Any], report: Report) -> None:
    assert Report.parse(json.dumps(told)) == report


# Lines

LINES = {
    "fetching": (
        HostRow("node7", FETCHING, RATE),
        "node7: org/app:1: fetch, fetched 120.0 of 546.0 MiB, 3 of 5 layers, 60.0 MiB/s, 7 s left",
    ),
    "packing": (
        HostRow("node7", PACKING, RATE),
        "node7: org/app:1: pack, read 300.0 of 600.0 MiB, 60.0 MiB/s, 5 s left",
    ),
    "packing while layers arrive": (
        HostRow("node7", replace(FETCHING, step="pack"), RATE),
        "node7: org/app:1: pack, fetched 120.0 of 546.0 MiB, 3 of 5 layers, 60.0 MiB/s, 7 s left",
    ),
    "no rate yet": (HostRow("node7", PACKING), "node7: org/app:1: pack, read 300.0 of 600.0 MiB"),
    "nothing fetched yet": (
        HostRow("node7", replace(FETCHING, step="metadata", fetched=0, arrived=0)),
        "node7: org/app:1: metadata, fetched 0.0 of 546.0 MiB, 0 of 5 layers",
    ),
    "all read": (HostRow("node7", UNPACKING, RATE), "node7: org/app:1: unpack for 21 s"),
    "nothing yet": (
        HostRow("node7", Report(image="org/app:1", step="resolve", since=4.2)),
        "node7: org/app:1: resolve for 4 s",
    ),
    "between steps": (HostRow("node7", Report(image="org/app:1", since=4.2)), "node7: org/app:1: at it for 4 s"),
    "before the first image": (HostRow("node7", Report(since=0.2)), "node7: at it for 0 s"),
    "one of several images": (
        HostRow("node7", replace(PACKING, images=3, done=1), RATE),
        "node7: org/app:1 (2 of 3): pack, read 300.0 of 600.0 MiB, 60.0 MiB/s, 5 s left",
    ),
    "the last of several images": (
        HostRow("node7", replace(UNPACKING, images=3, done=3)),
        "node7: org/app:1 (3 of 3): unpack for 21 s",
    ),
    "one file": (
        HostRow("node7", replace(FETCHING, blobs=1, arrived=0), RATE),
        "node7: org/app:1: fetch, fetched 120.0 of 546.0 MiB, 60.0 MiB/s, 7 s left",
    ),
    "a size that is not known": (
        HostRow("node7", replace(FETCHING, to_fetch=None), RATE),
        "node7: org/app:1: fetch, fetched 120.0 MiB, 3 of 5 layers, 60.0 MiB/s",
    ),
    "slow": (
        HostRow("node7", FETCHING, 60 * 1024.0),
        "node7: org/app:1: fetch, fetched 120.0 of 546.0 MiB, 3 of 5 layers, 60 KiB/s, 2 h left",
    ),
    "minutes": (
        HostRow("node7", FETCHING, 2.0 * MIB),
        "node7: org/app:1: fetch, fetched 120.0 of 546.0 MiB, 3 of 5 layers, 2.0 MiB/s, 4 min left",
    ),
    "huge": (
        HostRow("node7", replace(FETCHING, to_fetch=20 * 1024 * MIB), 512.0 * MIB),
        "node7: org/app:1: fetch, fetched 0.1 of 20.0 GiB, 3 of 5 layers, 512.0 MiB/s, 40 s left",
    ),
}


@pytest.mark.parametrize(("row", "line"), LINES.values(), ids=LINES.keys())
def test_a_line_about_one_host(row: HostRow, line: str) -> None:
    assert row.to_line() == line


SUMMARIES = {
    "nobody told anything": ([], "3 of 40 hosts done, 12 at work"),
    "all fetch": (
        [
            HostRow("node1", FETCHING, RATE),
            HostRow("node2", replace(FETCHING, fetched=60 * MIB, step="resolve"), RATE / 2),
        ],
        (
            "3 of 40 hosts done, 12 at work: fetched 180.0 of 1092.0 MiB, 90.0 MiB/s, 16 s left, "
            "node2 is last (resolve, 5%)"
        ),
    ),
    "one packs already": (
        [HostRow("node1", FETCHING, RATE), HostRow("node2", PACKING, RATE)],
        "3 of 40 hosts done, 12 at work: fetched 666.0 of 1092.0 MiB, 60.0 MiB/s, 7 s left, node1 is last (fetch, 10%)",
    ),
    "one has ended": (
        [HostRow("node1", FETCHING, RATE), HostRow("node2", UNPACKING)],
        "3 of 40 hosts done, 12 at work: fetched 666.0 of 1092.0 MiB, 60.0 MiB/s, 7 s left, node1 is last (fetch, 10%)",
    ),
    "all pack": (
        [HostRow("node1", PACKING, RATE), HostRow("node2", PACKING, RATE)],
        "3 of 40 hosts done, 12 at work: read 600.0 of 1200.0 MiB, 120.0 MiB/s, 5 s left, node1 is last (pack, 74%)",
    ),
    "a size that is not known": (
        [HostRow("node1", FETCHING), HostRow("node2", replace(FETCHING, to_fetch=None))],
        "3 of 40 hosts done, 12 at work: fetched 240.0 MiB, node1 is last (fetch, 10%)",
    ),
}


@pytest.mark.parametrize(("rows", "line"), SUMMARIES.values(), ids=SUMMARIES.keys())
def test_a_line_about_many_hosts(rows: list[HostRow], line: str) -> None:
    assert summary_line(rows, 3, 12, 40) == line


def test_hosts_that_the_play_does_not_count_count() -> None:
    assert summary_line([], 3, 2, 0) == "3 of 5 hosts done, 2 at work"


# Rates


def test_a_rate_is_that_of_the_last_seconds() -> None:
    meter = Meter()
    rates = [
        meter.row("node7", replace(FETCHING, at=at, fetched=fetched * MIB)).rate
        for at, fetched in [(2.0, 20), (12.0, 120), (22.0, 120), (32.0, 120), (42.0, 140)]
    ]
    assert [rate and rate / MIB for rate in rates] == [10.0, 10.0, pytest.approx(5.0), None, pytest.approx(1.0)]


def test_a_rate_begins_anew_with_what_is_done() -> None:
    meter = Meter()
    meter.row("node7", replace(FETCHING, at=10.0))
    assert meter.row("node7", replace(PACKING, at=15.0, read=50 * MIB)).rate == 10.0 * MIB


@pytest.mark.parametrize("fetched", [0, 1000])
def test_the_first_bytes_have_no_rate(fetched: int) -> None:
    assert Meter().row("node7", replace(FETCHING, fetched=fetched)).rate is None


# How often


@pytest.mark.parametrize(
    ("took", "working", "seconds"), [(0.01, 1, 2.5), (1.0, 1, 20.0), (0.01, 50, 10.0), (0.01, 10**6, 60.0)]
)
def test_looking_costs_little(took: float, working: int, seconds: float) -> None:
    assert seconds_to_next_look(took, working) == seconds


@pytest.fixture
def board(tmp_path: Path) -> Board:
    """Return a directory of a run."""
    return Board(str(tmp_path / "run"))


def test_hosts_at_work_and_hosts_that_have_ended(board: Board) -> None:
    for host in ("node1", "node2", "a/../b"):
        board.begin(host)
    board.put(HostRow("node1", FETCHING, RATE))
    board.put(HostRow("a/../b", FETCHING, RATE))
    board.end("a/../b")
    assert board.counts() == (1, 2)
    ended = replace(FETCHING, fetched=546 * MIB, arrived=5, read=600 * MIB)
    assert sorted(board.rows(), key=lambda row: row.host) == [
        HostRow("a/../b", ended),
        HostRow("node1", FETCHING, RATE),
    ]
    board.begin("a/../b")  # the next item of a loop
    assert board.counts() == (0, 3)


def test_one_of_all_processes_has_the_turn_each_ten_seconds(board: Board) -> None:
    board.begin("node1")
    times = [1000.0, 1000.1, 1002.6, 1002.7, 1012.0, 1013.0, 1013.1]
    assert [board.take_turn(now) for now in times] == [False, False, True, False, False, True, False]


@dataclass
class Scene:
    """A host that tells something, and who follows it, with a clock that waiting moves."""

    time: float = 0.0
    lines: list[tuple[float, str]] = field(default_factory=list)
    looks: list[float] = field(default_factory=list)

    def play(self, monkeypatch: pytest.MonkeyPatch, board: Board, told: Callable[[float], str], until: float) -> None:
        """Follow the host until a time."""
        scene = self

        class Ended(threading.Event):
            def wait(self, timeout: float | None = None) -> bool:
                scene.time += timeout or 0
                return scene.time > until

        def look() -> str:
            self.looks.append(self.time)
            return told(self.time)

        clock = SimpleNamespace(monotonic=lambda: self.time, time=lambda: self.time)
        monkeypatch.setattr(module, "time", clock)
        board.begin("node7")
        follow("node7", look, lambda line: self.lines.append((self.time, line)), board, 40, Ended())


def fetching(seconds: float) -> str:
    """Return the progress of a host that fetches 10 MiB a second."""
    return json.dumps(asdict(replace(FETCHING, at=seconds, fetched=int(10 * MIB * seconds))))


def test_a_short_task_is_not_looked_at(monkeypatch: pytest.MonkeyPatch, board: Board) -> None:
    scene = Scene()
    scene.play(monkeypatch, board, fetching, until=2.9)
    assert scene.looks == []


def test_a_host_has_a_line_every_five_seconds(monkeypatch: pytest.MonkeyPatch, board: Board) -> None:
    scene = Scene()
    scene.play(monkeypatch, board, fetching, until=20)
    assert [time for time, _line in scene.lines] == [3.0, 8.0, 13.0, 18.0]
    assert "fetched 80.0 of 546.0 MiB, 3 of 5 layers, 10.0 MiB/s, 47 s left" in scene.lines[1][1]


@pytest.mark.parametrize(("others", "each"), [(3, True), (4, False)])
def test_many_hosts_share_a_line(others: int, each: bool, monkeypatch: pytest.MonkeyPatch, board: Board) -> None:
    for number in range(others):
        board.begin(f"node{number}")
    scene = Scene()
    scene.play(monkeypatch, board, fetching, until=40)
    assert all(line.startswith("node7: ") == each for _time, line in scene.lines)
    assert [time for time, _line in scene.lines][:3] == ([3.0, 8.0, 13.0] if each else [5.5, 15.5, 25.5])
    assert each or scene.lines[0][1].startswith(f"0 of 40 hosts done, {others + 1} at work: fetched ")


def test_a_host_that_tells_nothing_is_asked_ever_more_seldom(monkeypatch: pytest.MonkeyPatch, board: Board) -> None:
    scene = Scene()
    scene.play(monkeypatch, board, lambda _time: "", until=24)
    assert scene.looks == [3.0, 5.5, 9.25, 14.875, 23.3125]
    assert scene.lines == []
