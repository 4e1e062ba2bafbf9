# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Texts of others in messages, and sizes in words."""

from __future__ import annotations

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.text import in_words, shown


@pytest.mark.parametrize(
    ("text", "limit", "safe"),
    [
        ("plain, and ümlaut", 300, "plain, and ümlaut"),
        ("\x1b[31mred\r\n", 300, "\\x1b[31mred\\r\\n"),
        ("a\u202eb\ud800\x9b", 300, "a\\u202eb\\ud800\\x9b"),
        ("abcdef", 3, "abc…"),
        (7, 300, "7"),
    ],
)
def test_a_foreign_text_is_shown_without_what_a_terminal_obeys(text: object, limit: int, safe: str) -> None:
    assert shown(text, limit) == safe


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536 << 20, "1.5 GiB"),
        (3 << 40, "3.0 TiB"),
        (5 << 50, "5120.0 TiB"),
    ],
)
def test_sizes_are_said_as_people_read_them(size: int, words: str) -> None:
    assert in_words(size) == words
