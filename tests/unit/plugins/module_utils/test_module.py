# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The message of a task in which some images failed."""

from __future__ import annotations

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils.module import failure


@pytest.mark.parametrize(
    ("failed", "total", "check", "message"),
    [
        ([("a", "why")], 1, False, "why"),
        ([("a", "why")], 2, False, "1 of 2 images failed, the others are done. a: why"),
        ([("a", "why")], 2, True, "1 of 2 images failed, the others would be done. a: why"),
        ([("a", "why"), ("b", "how")], 2, False, "2 of 2 images failed. a: why; b: how"),
        ([("a", "why"), ("b", "how"), ("c", "why")], 3, False, "3 of 3 images failed. a, c: why; b: how"),
    ],
)
def test_each_reason_is_said_once_with_all_images_that_failed_for_it(
    failed: list[tuple[str, str]], total: int, check: bool, message: str
) -> None:
    assert failure(failed, total, check) == message
