# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of the filter ``fleet``."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.hpc.sregistry.plugins.filter.fleet import FilterModule

NOW = "2026-11-22T06:40:00Z"
compare = FilterModule().filters()["fleet"]


def test_names_are_read_as_everywhere() -> None:
    document = compare({"node1": {}}, now=NOW, images=["docker://Ubuntu.example/x:1", "app"], registry="quay.io")
    assert [image["reference"] for image in document["images"]] == ["quay.io/app:latest", "ubuntu.example/x:1"]


@pytest.mark.parametrize(
    ("facts", "options", "message"),
    [
        ([], {}, "wants a dictionary"),
        ({}, {"images": ["a b"]}, "invalid image name 'a b'"),
        ({}, {"digests": {"ubuntu": "latest"}}, "invalid digest 'latest'"),
        ({}, {"registry": "a b"}, "invalid registry 'a b'"),
        ({}, {"now": "today"}, "'today' is not a time"),
    ],
)
def test_what_cannot_be_read_is_named(facts: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(AnsibleFilterError, match=message):
        compare(facts, **{"now": NOW, **options})
