# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lists of hosts in short form."""

from __future__ import annotations

import itertools
import re

import pytest
from ansible_collections.hpc.sregistry.plugins.plugin_utils._internal.display.hostlist import fold, natural, shortened
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("names", "folded"),
    [
        ([], ""),
        (["node1"], "node1"),
        (["login", "node1"], "login,node1"),
        (["node3", "node1", "node2", "node7"], "node[1-3,7]"),
        (["node9", "node10", "node11"], "node[9-11]"),
        (["node009", "node010", "node100"], "node[009-010,100]"),
        (["node098", "node099", "node100", "node101"], "node[098-101]"),
        (["n1", "n01", "n2", "n02"], "n[01-02],n[1-2]"),
        (["r1n1", "r1n2", "r2n1", "r2n2"], "r1n[1-2],r2n[1-2]"),
        (["n1-ib", "n2-ib", "n1"], "n1,n[1-2]-ib"),
        (["n1.site2.org", "n2.site2.org"], "n[1-2].site2.org"),
        (["10.0.0.1", "10.0.0.2"], "10.0.0.1,10.0.0.2"),
        (["n[1]", "n1", "n2"], "n[1-2],n[1]"),
        (["node1", "node1"], "node1"),
        (["node٣", "node٤"], "node٣,node٤"),
        (["n12345678901", "n12345678902"], "n12345678901,n12345678902"),
    ],
)
def test_a_list_is_written_as_pdsh_reads_it(names: list[str], folded: str) -> None:
    assert fold(names) == folded


def unfold(text: str) -> list[str]:
    """Unfold a list of hosts as pdsh does."""
    names = []
    for prefix, inner, suffix in re.findall(r"([^,\[]*)(?:\[([^\]]*)\])?([^,]*)(?:,|\Z)", text):
        if not inner:
            names.append(prefix + suffix)
            continue
        for part in inner.split(","):
            first, _dash, last = part.partition("-")
            width = len(first) if first.startswith("0") else 0
            for number in range(int(first), int(last or first) + 1):
                names.append(f"{prefix}{number:0{width}}{suffix}")
    return [name for name in names if name]


@given(st.sets(st.from_regex(r"[a-c]?[0-9]{0,3}[a-c][0-9]{1,3}(-x|\.d1)?", fullmatch=True)))
def test_no_host_is_lost_and_none_is_added(names: set[str]) -> None:
    assert sorted(unfold(fold(names))) == sorted(names)


def test_numbers_count_as_numbers_in_the_order_of_hosts() -> None:
    names = ["a", "node1", "node2", "node10", "node10a", "node11"]
    for shuffled in itertools.islice(itertools.permutations(names), 0, None, 7):
        assert sorted(shuffled, key=natural) == names


@pytest.mark.parametrize(
    ("folded", "short"),
    [
        ("n[1-9]", "n[1-9]"),
        ("n[1,3,5,7,9]", "n[1,3,5,7] and more"),
        ("alpha,beta,gamma", "alpha,beta and more"),
        ("a[1,3],b[5,7]", "a[1,3],b[5] and more"),
    ],
)
def test_a_long_list_is_cut_where_a_host_ends(folded: str, short: str) -> None:
    assert shortened(folded, 10) == short
