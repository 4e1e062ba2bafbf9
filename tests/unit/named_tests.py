# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The tables of documents that name a test for each thing that they say."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_TEST = re.compile(r"`(tests/(?:unit|integration)/[\w/]+\.py)::(test_\w+)`")


def rows(document: str) -> list[list[str]]:
    """Return the cells of each row of each table in a document below ``docs``, without headings and rules.

    A table counts if its last column is headed ``test``.
    """
    found: list[list[str]] = []
    counts = False
    for line in (ROOT / "docs" / document).read_text(encoding="utf-8").splitlines():
        if not line.startswith("|"):
            counts = False
            continue
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip()[1:-1])]
        if cells[-1] == "test":
            counts = True
        elif counts and not set("".join(cells)) <= set("-: "):
            found.append(cells)
    return found


def problems(cell: str) -> list[str]:
    """Return what is wrong with a cell that names tests: none at all, other words, tests that do not exist."""
    named = _TEST.findall(cell)
    wrong = [] if named else ["no test is named"]
    if re.search(r"[^\s,`]", _TEST.sub("", cell).replace("`", "")):
        wrong.append("something else than tests stands there")
    return wrong + [f"{path} has no {name}" for path, name in named if name not in _functions(ROOT / path)]


def _functions(path: Path) -> set[str]:
    if not path.is_file():
        return set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
