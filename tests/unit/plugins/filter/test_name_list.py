# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lists of names, whoever wrote them."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.hpc.sregistry.plugins.filter.name_list import name_list
from jinja2 import StrictUndefined, UndefinedError

WEB = "https://example.org/x.sif"


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("a", ["a"]),
        ("", []),
        ([], []),
        (["a", "b"], ["a", "b"]),
        (("a", "b"), ["a", "b"]),
        (["a", ["b", ["c"]], ""], ["a", "b", "c"]),
        ("a,b", ["a", "b"]),
        (" a , b,", ["a", "b"]),
        ("a\nb\n", ["a", "b"]),
        ("a\r\n\r\n  b", ["a", "b"]),
        ("a, b\nc", ["a", "b", "c"]),
        (["a\nb, c"], ["a", "b", "c"]),
        (["a,b"], ["a,b"]),
        (["a\n"], ["a"]),
        ('["a", "b"]', ["a", "b"]),
        (f"{WEB},a", [WEB, "a"]),
        (f"{WEB}?sig=1,2\na,b", [f"{WEB}?sig=1,2", "a", "b"]),
        ("quay.io/org/a:1@sha256:12,tools/*", ["quay.io/org/a:1@sha256:12", "tools/*"]),
    ],
)
def test_a_text_is_a_list_as_well(value: Any, names: list[str]) -> None:
    assert name_list(value) == names


@pytest.mark.parametrize("value", [None, 3, {"a": 1}, ["a", 3], [None], "[a, b", '[{"a": 1}]'])
def test_what_is_no_list_of_names_is_an_error(value: Any) -> None:
    with pytest.raises(AnsibleFilterError, match="name_list wants a list of names"):
        name_list(value)


def test_a_list_without_quotes_is_shown_with_the_way_out() -> None:
    words = r"wants a list of names, and '\[a:1, b\]' begins as one in JSON and is not one; put each name in double"
    with pytest.raises(AnsibleFilterError, match=words):
        name_list("[a:1, b]")


def test_what_is_not_defined_stays_so() -> None:
    with pytest.raises(UndefinedError, match="'prestage_images' is undefined"):
        name_list(StrictUndefined(name="prestage_images"))
