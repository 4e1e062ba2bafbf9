# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The progress of many hosts, as lines for people: of each host, or of all of them together.

Each host has a process of its own on the controller. They know of each other by small files in a directory of the run.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from typing import Any
from urllib.parse import quote

FEW = 4
"""So many hosts at work have a line each; more of them have one line together."""

_FIRST = 3.0  # seconds before the first look at a host: a short task costs nothing
_LOOK = 2.5  # seconds between two looks
_LOOKS = 5.0  # a second, at all hosts together
_SHARE = 0.05  # of the time that may go into looking
_SELDOM = 60.0  # seconds; the longest time between two looks
_LINE = 4.9  # seconds between two lines of a host
_SUMMARY = 9.9  # seconds between two lines of all hosts
_WINDOW = 15.0  # seconds that a rate is the mean of
_TELLING = 256 * 1024  # bytes; what comes in pieces has no rate before
_LONGEST = 200  # characters of a name
_MOST = 2**60  # of anything
_MIB = 1024 * 1024
_HUGE = 10 * 1024 * _MIB  # from here on, in GiB
_WORKING, _ENDED = ".working", ".ended"


@dataclass(frozen=True)
class Report:
    """The progress that a host tells, see ``Progress.state``; sizes are in bytes, times in seconds."""

    at: float = 0.0
    images: int = 0
    done: int = 0
    image: str = ""
    step: str = ""
    since: float = 0.0
    fetched: int = 0
    to_fetch: int | None = 0
    blobs: int = 0
    arrived: int = 0
    read: int = 0
    to_read: int = 0

    @classmethod
    def parse(cls, text: str) -> Report | None:
        """Read a report from JSON; None if it is none. The host is not trusted: nothing in it can move the cursor."""
        with suppress(ValueError, TypeError, OverflowError, RecursionError):
            read = json.loads(text)
            if isinstance(read, dict):
                known = {field.name: field.default for field in fields(cls) if field.name in read}
                return cls(**{name: _plain(name, read[name], like) for name, like in known.items()})
        return None

    @property
    def fetches(self) -> bool:
        """True if something has yet to arrive; otherwise the host only reads what is there."""
        return self.arrived < self.blobs

    @property
    def amount(self) -> tuple[int, int | None]:
        """The bytes of the present work that are done, and of how many."""
        return (self.fetched, self.to_fetch) if self.fetches else (self.read, self.to_read)

    @property
    def share(self) -> float:
        """The part of all work that is done, from 0 to 1."""
        whole = (self.to_fetch or 0) + self.to_read
        return min(1.0, (self.fetched + self.read) / whole) if whole else 0.0


def _plain(name: str, value: Any, like: Any) -> Any:
    if isinstance(like, str):
        return re.sub(r"[^\x20-\x7e]", "?", str(value))[:_LONGEST]
    if value is None and name == "to_fetch":
        return None
    number = type(like)(value)
    if not 0 <= number <= _MOST:
        raise ValueError(name)
    return number


@dataclass(frozen=True)
class HostRow:
    """A host with its last report, and its rate in bytes a second where that is known."""

    host: str
    report: Report
    rate: float | None = None

    @property
    def left(self) -> float | None:
        """The seconds until the present work is done, at this rate."""
        here, whole = self.report.amount
        return (whole - here) / self.rate if whole and whole >= here and self.rate else None

    def to_line(self) -> str:
        """Return the line about it."""
        report = self.report
        which = f" ({min(report.done + 1, report.images)} of {report.images})" if report.images > 1 else ""
        here, whole = report.amount
        if report.fetches or (here and whole and here < whole):
            verb = "fetched" if report.fetches else "read"
            parts = [part for part in (report.step, f"{verb} {_amount(here, whole)}") if part]
            if report.fetches and report.blobs > 1:
                parts.append(f"{report.arrived} of {report.blobs} layers")
            parts += _pace(self.rate, self.left)
        else:
            parts = [f"{report.step or 'at it'} for {_duration(report.since)}"]
        image = f"{report.image}{which}: " if report.image else ""
        return f"{self.host}: {image}{', '.join(parts)}"


def summary_line(rows: Sequence[HostRow], ended: int, working: int, hosts: int) -> str:
    """Return one line about many hosts.

    :param rows: of all hosts that have told something, also of those that have ended.
    :param ended, working, hosts: the numbers of hosts that have ended, that are at work, and in the play.
    """
    line = f"{ended} of {max(hosts, ended + working)} hosts done, {working} at work"
    if not rows:
        return line
    fetches = any(row.report.fetches for row in rows)
    pairs = [
        (row.report.fetched, row.report.to_fetch) if fetches else (row.report.read, row.report.to_read) for row in rows
    ]
    whole = None if any(of is None for _here, of in pairs) else sum(of or 0 for _here, of in pairs)
    rates = [row.rate for row in rows if row.rate and row.report.fetches == fetches]
    times = [row.left for row in rows if row.left is not None and row.rate]
    parts = [f"{'fetched' if fetches else 'read'} {_amount(sum(here for here, _of in pairs), whole)}"]
    parts += _pace(sum(rates) or None, max(times, default=None))
    at_work = [row for row in rows if row.rate is not None or row.report.share < 1]
    if at_work:
        last = min(at_work, key=lambda row: row.report.share)
        parts.append(f"{last.host} is last ({last.report.step or 'at it'}, {last.report.share:.0%})")
    return f"{line}: {', '.join(parts)}"


def _amount(here: int, whole: int | None) -> str:
    unit, size = ("GiB", 1024 * _MIB) if max(here, whole or 0) >= _HUGE else ("MiB", _MIB)
    return f"{here / size:.1f} {unit}" if whole is None else f"{here / size:.1f} of {whole / size:.1f} {unit}"


def _pace(rate: float | None, left: float | None) -> list[str]:
    parts = [f"{rate / _MIB:.1f} MiB/s" if rate >= _MIB else f"{rate / 1024:.0f} KiB/s"] if rate else []
    return [*parts, f"{_duration(left)} left"] if left is not None else parts


def _duration(seconds: float) -> str:
    whole = round(min(seconds, 1e9))
    if whole < 100:
        return f"{whole} s"
    return f"{round(whole / 60)} min" if whole < 6000 else f"{round(whole / 3600)} h"


class Meter:
    """The rate of one host, over its last reports."""

    def __init__(self) -> None:
        self._past = deque([Report()])

    def row(self, host: str, report: Report) -> HostRow:
        """Return the host with the rate that follows from this report and those before, by the host's own clock."""
        last = self._past[-1]
        if last.at and last.fetches != report.fetches:  # it does something else since
            self._past = deque([last])
        self._past.append(report)
        while len(self._past) > 2 and report.at - self._past[1].at >= _WINDOW:
            self._past.popleft()
        first, took = self._past[0], report.at - self._past[0].at
        went = report.fetched - first.fetched if report.fetches else report.read - first.read
        return HostRow(host, report, went / took if took > 0 and went >= _TELLING else None)


class Board:
    """A directory by which the processes of one task know of each other: it has a file for each host."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def begin(self, host: str) -> None:
        """Note that a host is at work."""
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        with suppress(FileNotFoundError):
            os.unlink(self._path(host, _ENDED))
        with open(self._path(host, _WORKING), "w", encoding="utf-8"):
            pass

    def put(self, row: HostRow) -> None:
        """Note the last report of a host."""
        new = self._path(row.host, ".new")
        with open(new, "w", encoding="utf-8") as stream:
            json.dump(asdict(row), stream)
        os.replace(new, self._path(row.host, _WORKING))

    def end(self, host: str) -> None:
        """Note that a host has ended; its last report stays."""
        os.replace(self._path(host, _WORKING), self._path(host, _ENDED))

    def counts(self) -> tuple[int, int]:
        """Return how many hosts have ended, and how many are at work."""
        names = os.listdir(self._directory)
        return sum(name.endswith(_ENDED) for name in names), sum(name.endswith(_WORKING) for name in names)

    def rows(self) -> list[HostRow]:
        """Return the last report of each host. A host that has ended has all its work done, and no rate."""
        rows = []
        for name in os.listdir(self._directory):
            if name.endswith((_WORKING, _ENDED)):
                with suppress(OSError, ValueError, TypeError, KeyError):
                    rows.append(self._row(name))
        return rows

    def take_turn(self, now: float) -> bool:
        """Tell whether the caller must write the next line about all hosts, which only one of them does. The first line
        waits until others have told something too.

        :param now: seconds since the epoch.
        """
        descriptor = os.open(os.path.join(self._directory, "turn"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            due = os.read(descriptor, 100)
            if due and now < float(due):
                return False
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(now + (_SUMMARY if due else _LOOK)).encode(), 0)
            return bool(due)
        except BlockingIOError:
            return False
        finally:
            os.close(descriptor)

    def _row(self, name: str) -> HostRow:
        with open(os.path.join(self._directory, name), encoding="utf-8") as stream:
            read = json.load(stream)
        row = HostRow(read["host"], Report(**read["report"]), read["rate"])
        if name.endswith(_WORKING):
            return row
        report = row.report
        all_of_it = replace(
            report, fetched=report.to_fetch or report.fetched, read=report.to_read, arrived=report.blobs
        )
        return HostRow(row.host, all_of_it)

    def _path(self, host: str, state: str) -> str:
        return os.path.join(self._directory, quote(host, safe="") + state)


def seconds_to_next_look(took: float, working: int) -> float:
    """Return the seconds until the next look at a host: looks must cost little, also where they are slow or many.

    :param took: seconds that the last look took.
    :param working: how many hosts are at work.
    """
    return min(_SELDOM, max(_LOOK, took / _SHARE, working / _LOOKS))


def follow(
    host: str,
    look: Callable[[], str],
    show: Callable[[str], None],
    board: Board,
    hosts: int,
    ended: threading.Event,
) -> None:
    """Show lines about a host, or about all of them, until it has ended.

    :param look: returns what the host tells; an empty text if it tells nothing.
    :param hosts: how many the play has.
    """
    meter, shown, wait, silence = Meter(), float("-inf"), _FIRST, _LOOK
    while not ended.wait(wait):
        begin = time.monotonic()
        report = Report.parse(look())
        if report is None:
            wait, silence = silence, min(_SELDOM, 1.5 * silence)
            continue
        row = meter.row(host, report)
        if ended.is_set():
            return
        board.put(row)
        done, working = board.counts()
        wait = seconds_to_next_look(time.monotonic() - begin, working)
        if working > FEW:
            if board.take_turn(time.time()):
                show(summary_line(board.rows(), done, working, hosts))
        elif time.monotonic() - shown >= _LINE:
            shown = time.monotonic()
            show(row.to_line())
