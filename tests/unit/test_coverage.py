# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``docs/coverage.md`` is complete, and every test that it names exists where ``make test`` runs it."""

from __future__ import annotations

import pytest
from ansible_collections.hpc.sregistry.tests.unit.named_tests import problems, rows

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


ROWS = rows("coverage.md")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: str(row[0])[:60])
def test_a_row_says_how_it_is_done_and_which_tests_show_it(row: list[str]) -> None:
    assert len(row) == 3
    what, how, tests = row
    assert what
    assert len(how) > 3
    assert problems(tests) == []


@pytest.mark.parametrize("variable", VARIABLES)
def test_every_variable_has_a_row(variable: str) -> None:
    assert any(f"`{variable}`" in row[0] for row in ROWS)


def test_there_are_rows() -> None:
    assert len(ROWS) > 60
