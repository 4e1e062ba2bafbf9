# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The order of the runs: round robin, so that what else the machine does in a minute meets all commands alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")

AT_LEAST = 2
"""Runs of a command that takes longer than what it may use in all."""


def rotated(items: Sequence[T], by: int) -> list[T]:
    """Return the items from number ``by`` on, then those before: each one has each neighbour's place in turn."""
    by %= len(items)
    return [*items[by:], *items[:by]]


def wanted(seconds: Sequence[float], runs: int, allowance: float) -> bool:
    """Tell whether a command that took ``seconds`` until now is to run again."""
    if len(seconds) >= runs:
        return False
    return len(seconds) < AT_LEAST or sum(seconds) < allowance


def rounds(times: Mapping[str, Sequence[float]], runs: int, allowance: float) -> Iterator[tuple[int, list[str]]]:
    """Yield the rounds by number (from 1), and which commands run in each, in which order.

    ``times`` are the seconds that each command took until now; whoever iterates adds to them. A command runs ``runs``
    times, or until it used ``allowance`` seconds and ran twice.
    """
    for number in range(runs):
        keys = [key for key in rotated(list(times), number) if wanted(times[key], runs, allowance)]
        if keys:
            yield number + 1, keys
