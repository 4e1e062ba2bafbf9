# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``docs/architecture.md`` has every package and file of the library in its tables, and imports follow their arrows."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = ROOT / "plugins"
LIBRARY, CONTROLLER = (PLUGINS / name / "_internal" for name in ("module_utils", "plugin_utils"))
PAGE = (ROOT / "docs" / "architecture.md").read_text().partition("## On the controller")
TEXTS = {LIBRARY: PAGE[0], CONTROLLER: PAGE[2]}
ROW = re.compile(r"^\| `(\w+)/` \|[^|]+\| ([\w, ]+) \|$", re.MULTILINE)
ARROWS = {
    root / package: set(re.findall(r"\w+", allowed)) - {"nothing"}
    for root, text in TEXTS.items()
    for package, allowed in ROW.findall(text)
}
TABLE = re.compile(
    r"^\*\*(?:`(\w+)/`|The ground)\*\*:.*\n\n\| file \| owns \|\n\|---\|---\|\n((?:\|.*\n)+)", re.MULTILINE
)
FILES = {
    root / package / name
    for root, text in TEXTS.items()
    for package, rows in TABLE.findall(text)
    for name in re.findall(r"\| `(\w+\.py)` \|", rows)
}


def from_statements(node: ast.AST) -> Iterator[ast.ImportFrom]:
    """Yield every ``from … import`` of a file, also those in functions, and those that only types need."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ImportFrom):
            yield child
        yield from from_statements(child)


def imported(path: Path) -> set[Path]:
    """Return the files of both libraries that a file of them imports."""
    found = set()
    for statement in from_statements(ast.parse(path.read_text())):
        if not statement.level:
            continue
        start = path.parents[statement.level - 1].joinpath(*(statement.module or "").split("."))
        named = {(start / f"{alias.name}.py") for alias in statement.names}
        files = {file for file in named if file.is_file()} or {start.with_suffix(".py")}
        assert all(file.is_file() for file in files), f"{path}: {ast.unparse(statement)}"
        found |= files
    return found


GRAPH = {path: imported(path) for root in TEXTS for path in sorted(root.rglob("*.py"))}


def test_every_package_and_every_file_has_its_row() -> None:
    packages = {path for root in TEXTS for path in root.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert set(ARROWS) == packages
    assert set(GRAPH) == FILES


def test_no_file_lies_outside_of_the_private_libraries() -> None:
    for library in ("module_utils", "plugin_utils"):
        outside = {path for path in (PLUGINS / library).rglob("*.py") if "_internal" not in path.parts}
        assert outside == set()


def test_packages_import_as_the_arrows_say() -> None:
    wrong = [
        f"{path} imports {file}"
        for path, files in GRAPH.items()
        for file in sorted(files)
        if file.parent not in (LIBRARY, path.parent) and file.parent.name not in ARROWS.get(path.parent, ())
    ]
    assert wrong == []


def test_no_package_leads_back_to_itself() -> None:
    TopologicalSorter({package.name: allowed for package, allowed in ARROWS.items()}).prepare()


def test_no_file_leads_back_to_itself() -> None:
    TopologicalSorter(GRAPH).prepare()


def test_private_libraries_are_imported_by_this_collection_alone() -> None:
    """Roles and playbooks reach the library by modules and plugins, never by its name."""
    for part in ("roles", "playbooks"):
        wrong = [path for path in (ROOT / part).rglob("*.yml") if "_internal" in path.read_text()]
        assert wrong == []
