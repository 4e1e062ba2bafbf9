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
LIBRARY = PLUGINS / "module_utils" / "_internal"
TEXT = (ROOT / "docs" / "architecture.md").read_text()
ROW = re.compile(r"^\| `(\w+)/` \|[^|]+\| ([\w, ]+) \|$", re.MULTILINE)
ARROWS = {package: set(re.findall(r"\w+", allowed)) - {"nothing"} for package, allowed in ROW.findall(TEXT)}
TABLE = re.compile(
    r"^\*\*(?:`(\w+)/`|The ground)\*\*:.*\n\n\| file \| owns \|\n\|---\|---\|\n((?:\|.*\n)+)", re.MULTILINE
)
FILES = {
    Path(package, name) for package, rows in TABLE.findall(TEXT) for name in re.findall(r"\| `(\w+\.py)` \|", rows)
}


def from_statements(node: ast.AST) -> Iterator[ast.ImportFrom]:
    """Yield every ``from … import`` of a file, also those in functions, and those that only types need."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ImportFrom):
            yield child
        yield from from_statements(child)


def imported(path: Path) -> set[Path]:
    """Return the files of the library that a file of it imports, relative to its root."""
    found = set()
    for statement in from_statements(ast.parse(path.read_text())):
        if not statement.level:
            continue
        start = path.parents[statement.level - 1].joinpath(*(statement.module or "").split("."))
        named = {(start / f"{alias.name}.py") for alias in statement.names}
        files = {file for file in named if file.is_file()} or {start.with_suffix(".py")}
        assert all(file.is_file() for file in files), f"{path}: {ast.unparse(statement)}"
        found |= {file.relative_to(LIBRARY) for file in files}
    return found


GRAPH = {path.relative_to(LIBRARY): imported(path) for path in sorted(LIBRARY.rglob("*.py"))}


def test_every_package_and_every_file_has_its_row() -> None:
    assert set(ARROWS) == {path.name for path in LIBRARY.iterdir() if path.is_dir()} - {"__pycache__"}
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
        if len(file.parts) > 1 and file.parts[0] not in {path.parts[0], *ARROWS.get(path.parts[0], ())}
    ]
    assert wrong == []


def test_no_package_leads_back_to_itself() -> None:
    TopologicalSorter(ARROWS).prepare()


def test_no_file_leads_back_to_itself() -> None:
    TopologicalSorter(GRAPH).prepare()


def test_private_libraries_are_imported_by_this_collection_alone() -> None:
    """Roles and playbooks reach the library by modules and plugins, never by its name."""
    for part in ("roles", "playbooks"):
        wrong = [path for path in (ROOT / part).rglob("*.yml") if "_internal" in path.read_text()]
        assert wrong == []
