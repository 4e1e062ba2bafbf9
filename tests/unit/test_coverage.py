# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``docs/coverage.md`` is complete, and every test that it names exists where ``make test`` runs it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COVERAGE = ROOT / "docs" / "coverage.md"
TEST = re.compile(r"`(tests/(?:unit|integration)/[\w/]+\.py)::(test_\w+)`")

VARIABLES = [
    *(f"SREGISTRY_DOCKERHUB_{name}" for name in ("SECRETS", "USERNAME", "PASSWORD", "NOHTTPS", "VERSION", "BASE")),
    *(f"SREGISTRY_DOCKER_{name}" for name in ("OS", "ARCHITECTURE", "CMD")),
    *(f"SREGISTRY_{name}" for name in ("PYTHON_THREADS", "DATABASE", "STORAGE", "CLIENT")),
    *(
        f"{engine}_{name}"
        for engine in ("SINGULARITY", "APPTAINER")
        for name in ("CACHEDIR", "DISABLE_CACHE", "DOCKER_USERNAME", "DOCKER_PASSWORD", "TMPDIR", "NOHTTPS")
    ),
]


def rows() -> list[list[str]]:
    """The cells of each row of each table, without headings and rules."""
    lines = COVERAGE.read_text(encoding="utf-8").splitlines()
    tables = [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip()[1:-1])] for line in lines if line.startswith("|")
    ]
    return [cells for cells in tables if not set("".join(cells)) <= set("-: ") and cells[-1] != "test"]


ROWS = rows()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: str(row[0])[:60])
def test_a_row_says_how_it_is_done_and_which_tests_show_it(row: list[str]) -> None:
    assert len(row) == 3
    what, how, tests = row
    assert what
    assert len(how) > 3
    named = TEST.findall(tests)
    assert named, "no test"
    assert not re.search(r"[^\s,`]", TEST.sub("", tests).replace("`", "")), "something that is no test"
    for path, name in named:
        assert name in functions(ROOT / path), f"{path} has no {name}"


@pytest.mark.parametrize("variable", VARIABLES)
def test_every_variable_has_a_row(variable: str) -> None:
    assert any(f"`{variable}`" in row[0] for row in ROWS)


def test_there_are_rows() -> None:
    assert len(ROWS) > 60


def functions(path: Path) -> set[str]:
    """The names of the test functions of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
