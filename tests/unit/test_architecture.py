# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The table of ``docs/architecture.md`` has every file of the library, and what a file imports stands above it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "plugins" / "module_utils"
ROWS = re.findall(r"^\| (`\w+\.py`.*?) \|", (ROOT / "docs" / "architecture.md").read_text(), re.MULTILINE)
RANK = {name: place for place, row in enumerate(ROWS) for name in re.findall(r"`(\w+)\.py`", row)}


def imported(tree: ast.AST) -> set[str]:
    """The files of the library that are imported anywhere in one of them, but not for types only."""
    names = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            names |= {node.module} if node.module else {alias.name for alias in node.names}
        names |= imported(node)
    return names


def test_every_file_has_a_row() -> None:
    assert set(RANK) == {path.stem for path in LIBRARY.glob("*.py")} - {"__init__"}


def test_what_a_file_imports_stands_above_it() -> None:
    wrong = [
        f"{path.stem} imports {name}"
        for path in sorted(LIBRARY.glob("*.py"))
        for name in sorted(imported(ast.parse(path.read_text())))
        if path.stem in RANK and RANK[name] > RANK[path.stem]
    ]
    assert wrong == []
