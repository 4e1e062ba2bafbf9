# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of the filters ``prestage_summary``, ``prestage_elect`` and ``lock_pins``."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.hpc.sregistry.plugins.filter.lock_pins import lock_pins
from ansible_collections.hpc.sregistry.plugins.filter.prestage_elect import prestage_elect
from ansible_collections.hpc.sregistry.plugins.filter.prestage_summary import prestage_summary

PIN = {"digest": f"sha256:{'a' * 64}"}


@pytest.mark.parametrize(
    ("results", "options", "message"),
    [
        ([], {"images": []}, "wants a dictionary"),
        ({"n1": []}, {"images": []}, "wants a dictionary"),
        ({}, {"images": [], "strategy": "all"}, "knows no strategy 'all'; choose one of each, build_once, shared"),
        ({"n1": {}}, {"images": "ubuntu"}, "wants a list of the names"),
        ({"n1": {}}, {"images": {"n1": 3}}, "wants a list of the names"),
    ],
)
def test_what_cannot_be_summed_up_is_named(results: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(AnsibleFilterError, match=message):
        prestage_summary(results, **options)


def test_the_names_may_be_one_list_for_all() -> None:
    assert prestage_summary({"n1": {}, "n2": {}}, ["ubuntu"])["images"][0]["failed"] == 2


def test_who_did_not_go_first_is_named() -> None:
    with pytest.raises(AnsibleFilterError, match="wants dictionaries"):
        prestage_elect([], {})
    with pytest.raises(AnsibleFilterError, match="n1 had to go first"):
        prestage_elect({"n1": {"group": "g", "names": []}}, {}, asked=["n1"])


@pytest.mark.parametrize("form", [{"images": {"docker://Ubuntu:24.04".lower(): PIN}}, {"library/ubuntu:24.04": PIN}])
def test_a_lock_is_asked_by_any_form_of_a_name(form: dict[str, Any]) -> None:
    assert lock_pins(form, ["ubuntu:24.04"]) == {"ubuntu:24.04": PIN}


def test_all_names_of_a_lock_are_meant_where_none_is_given() -> None:
    assert lock_pins({"images": {"a": PIN, "b": PIN}}) == {"a": PIN, "b": PIN}


@pytest.mark.parametrize(
    ("lock", "images", "message"),
    [
        (["text"], None, "the lock: .*text.* is not a lock"),
        ({}, None, "the lock names no image, so that nothing is locked"),
        ({"images": {}}, None, "the lock names no image, so that nothing is locked"),
        ({"images": []}, None, "is not a lock"),
        ({"images": {"a b": PIN}}, None, "the lock: invalid image name 'a b'"),
        ({"images": {"a": PIN}}, ["a", "b:1", "c"], "the lock does not know b:1, c; lock them"),
        (
            {"images": {"a": PIN}},
            ["https://h.example/a.sif?sig=SECRET"],
            r"does not know https://h\.example/a\.sif; lock them",
        ),
        ({"images": {"a": PIN}}, [f"x{number}" for number in range(13)], "x9 and 3 more"),
    ],
)
def test_what_a_lock_lacks_is_named(lock: Any, images: list[str] | None, message: str) -> None:
    with pytest.raises(AnsibleFilterError, match=message):
        lock_pins(lock, images)
