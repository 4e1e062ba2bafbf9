# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Each promise of ``docs/reliability.md`` stands beside tests that exist where ``make test`` runs them."""

from __future__ import annotations

import pytest
from ansible_collections.hpc.sregistry.tests.unit.named_tests import problems, rows

ROWS = rows("reliability.md")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: str(row[0])[:60])
def test_a_promise_stands_beside_its_tests(row: list[str]) -> None:
    promise, tests = row
    assert len(promise) > 10
    assert problems(tests) == []


def test_there_are_promises() -> None:
    assert len(ROWS) > 20
