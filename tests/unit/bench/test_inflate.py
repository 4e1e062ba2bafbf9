# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decoders of gzip, compared: each is really taken, and each is a row."""

from __future__ import annotations

import gzip
from pathlib import Path
from random import Random

import pytest

from tests.bench import inflate
from tests.measure.command import Failed


@pytest.fixture
def layer(tmp_path: Path) -> Path:
    path = tmp_path / "layer"
    path.write_bytes(gzip.compress(Random(1).randbytes(3 << 20), 1))
    return path


def test_each_way_that_can_be_taken_here_is_a_row(layer: Path) -> None:
    rows = inflate.measure(layer, 1).splitlines()[4:]
    ways = inflate.ways()
    assert [row.split("  ")[0] for row in rows] == [way.title for way in ways]
    assert ways[0].hashes, "what was done before comes first: all are held against it"
    assert {"isal", "zlib"} <= {way.decoder for way in ways}


def test_a_way_that_is_not_taken_gives_no_figure(layer: Path) -> None:
    with pytest.raises(Failed, match=r"^rapidgzip did not inflate"):
        inflate._inflation(inflate.Way("rapidgzip", 1), layer)  # it is for two processors or more
