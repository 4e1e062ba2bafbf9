# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter that leaves out of a name what may be a secret: it must name what the modules name."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.hpc.sregistry.plugins.filter.without_query import without_query
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.reference import Reference

DIGEST = f"sha256:{'d' * 64}"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("https://host.org/a.sif?X-Amz-Signature=s3cret", "https://host.org/a.sif"),
        ("http://host.org/a.sif?sig=a?b@c", "http://host.org/a.sif"),
        (f"https://host.org/a.sif?sig=s3cret@{DIGEST}", f"https://host.org/a.sif@{DIGEST}"),
        (f"https://host.org/a.sif@{DIGEST}", f"https://host.org/a.sif@{DIGEST}"),
        ("https://host.org/a.sif#part", "https://host.org/a.sif"),
        ("https://host.org/a.sif", "https://host.org/a.sif"),
        ("quay.io/org/app:1", "quay.io/org/app:1"),
        ("oras://quay.io/org/app:1", "oras://quay.io/org/app:1"),
    ],
)
def test_what_is_left_is_what_the_inventory_calls_it(name: str, expected: str) -> None:
    assert without_query(name) == expected
    assert without_query([name, "ubuntu"]) == [expected, "ubuntu"]
    assert Reference.parse(name).uri == Reference.parse(expected).uri


@pytest.mark.parametrize("value", [None, 7, {"name": "ubuntu"}, ["ubuntu", 7]])
def test_what_is_no_name_is_an_error(value: Any) -> None:
    with pytest.raises(AnsibleFilterError, match="wants a name or a list of names"):
        without_query(value)
