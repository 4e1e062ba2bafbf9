# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a task costs a fleet: from one host and from many, to a thousand."""

from __future__ import annotations

import pytest

from tests.bench.unchanged import Cost, table


def test_a_thousand_hosts_are_the_first_and_999_more() -> None:
    cost = Cost("ping", hosts=101, controller=7.0, alone=2.0, managed=0.25, sent=168_704)
    assert cost.more == pytest.approx(0.05)
    assert cost.many == pytest.approx(51.95)
    _heads, _rule, row = table([cost]).splitlines()
    assert row.split() == ["ping", "0.25", "169", "2.00", "0.050", "52", "169"]
