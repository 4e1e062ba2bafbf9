# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lists of hosts as pdsh, Slurm and ClusterShell write them: ``node[001-480,482]``.

ClusterShell can do this, but a collection brings no packages for Python to the controller.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

# The last number of the first label is the one that counts up: the 17 of "r2n17-ib.cluster.example".
_NUMBERED = re.compile(r"\A([^.\d]*(?:\d+[^.\d]+)*)([0-9]{1,9})([^.\d]*(?:\..*)?)\Z", re.ASCII | re.DOTALL)
_SPECIAL = frozenset("[],")


def natural(text: str) -> list[tuple[int, int, str]]:
    """Return a key that sorts ``node9`` before ``node10``."""
    parts = re.split(r"([0-9]+)", text)
    return [(1, int(part[:4000]), part) if at % 2 else (0, 0, part) for at, part in enumerate(parts)]


def fold(names: Iterable[str]) -> str:
    """Return a list of hosts in short form, in their natural order, each host once.

    A name that itself holds brackets or commas stands as it is.
    """
    plain: set[str] = set()
    numbered: dict[tuple[str, str], set[str]] = {}
    for name in names:
        found = None if _SPECIAL & set(name) else _NUMBERED.match(name)
        if found:
            numbered.setdefault((found[1], found[3]), set()).add(found[2])
        else:
            plain.add(name)
    folded = [(natural(name), name) for name in plain]
    for (prefix, suffix), numbers in numbered.items():
        for group in _same_width(numbers):
            inner = ",".join(_ranges(group))
            text = f"[{inner}]" if len(group) > 1 else inner
            folded.append((natural(prefix + group[0] + suffix), prefix + text + suffix))
    return ",".join(text for _key, text in sorted(folded))


def shortened(folded: str, most: int = 1000) -> str:
    """Return a list of hosts in short form, cut after about so many characters, with "and more" then."""
    if len(folded) <= most:
        return folded
    begin = folded[: folded.rfind(",", 0, most + 1)]
    return f"{begin}{']' if begin.rfind('[') > begin.rfind(']') else ''} and more"


def _same_width(numbers: set[str]) -> Iterator[list[str]]:
    """Yield the numbers that one bracket can hold: those padded with zeros to one width, and those without padding."""
    padded = {len(number) for number in numbers if number[0] == "0" and len(number) > 1}
    groups: dict[int, list[str]] = {}
    for number in numbers:
        groups.setdefault(len(number) if len(number) in padded else 0, []).append(number)
    for group in groups.values():
        yield sorted(group, key=int)


def _ranges(numbers: list[str]) -> Iterator[str]:
    """Yield the ranges of numbers that are in order: ``1-3``, ``7``."""
    first = last = numbers[0]
    for number in [*numbers[1:], ""]:
        if number and int(number) == int(last) + 1:
            last = number
            continue
        yield first if first == last else f"{first}-{last}"
        first = last = number
