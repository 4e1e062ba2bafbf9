# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tables and the figures in them."""

from __future__ import annotations

import pytest

from tests.measure.figures import decimal
from tests.measure.table import Table


def test_a_table_as_text_parts_groups() -> None:
    table = Table(("image", "command", "s"), [("a", "x", "1.5"), ("a", "yy", "10"), ("b", "x", "2")], texts=2)
    assert table.text().splitlines() == [
        "image  command    s",
        "-----  -------  ---",
        "a      x        1.5",
        "a      yy        10",
        "",
        "b      x          2",
    ]


def test_a_table_as_markdown_escapes_bars() -> None:
    table = Table(("what", "s"), [("a | b", "1")])
    assert table.markdown().splitlines() == ["| what | s |", "| --- | ---: |", "| a \\| b | 1 |"]


@pytest.mark.parametrize(("seconds", "text"), [(0.512, "0.51"), (9.994, "9.99"), (12.34, "12.3"), (150.2, "150")])
def test_seconds_have_three_digits(seconds: float, text: str) -> None:
    assert decimal(seconds) == text
