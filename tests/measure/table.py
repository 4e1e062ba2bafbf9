# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables, for a terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Table:
    """Rows of as many cells as there are ``heads``; the first ``texts`` columns are words, the others figures."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: int = 1

    @classmethod
    def of(cls, items: Iterable[T], *columns: tuple[str, Callable[[T], str]], texts: int = 1) -> Table:
        """Return a row for each item; a column is its head and what it says of an item."""
        rows = [[cell(item) for _head, cell in columns] for item in items]
        return cls([head for head, _cell in columns], rows, texts)

    def markdown(self) -> str:
        """Write it with figures to the right."""
        marks = ["---" if number < self.texts else "---:" for number in range(len(self.heads))]
        lines = [[cell.replace("|", "\\|") for cell in line] for line in (self.heads, marks, *self.rows)]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def text(self) -> str:
        """Write it in columns; a line separates rows whose first cell differs where words fill two columns or more."""
        widths = [max(map(len, column)) for column in zip(self.heads, *self.rows, strict=True)]
        lines = [self._line(self.heads, widths), "  ".join("-" * width for width in widths)]
        before = self.rows[0][0] if self.rows else ""
        for row in self.rows:
            if self.texts > 1 and row[0] != before:
                lines.append("")
            before = row[0]
            lines.append(self._line(row, widths))
        return "\n".join(lines)

    def _line(self, cells: Sequence[str], widths: Sequence[int]) -> str:
        padded = [
            cell.ljust(width) if number < self.texts else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return "  ".join(padded).rstrip()
