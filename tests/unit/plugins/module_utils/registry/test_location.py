# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Registries that are named as a place of their own, or as reached in another way than others."""

from __future__ import annotations

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import InvalidReference
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.registry.location import insecure_hosts
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.transport.options import Transport


@pytest.mark.parametrize(
    ("given", "host", "http", "verify"),
    [
        ([], "localhost:5000", False, "/ca.pem"),
        (["http://localhost:5000"], "localhost:5000", True, "/ca.pem"),
        (["HTTP://localhost:5000/"], "localhost:5000", True, "/ca.pem"),
        (["http://localhost:5000"], "localhost:5001", False, "/ca.pem"),
        (["http://localhost:5000"], "quay.io", False, "/ca.pem"),
        (["localhost:5000"], "localhost:5000", False, False),
        (["https://localhost:5000"], "localhost:5000", False, False),
        (["quay.io", "http://localhost:5000"], "quay.io", False, False),
        (["index.docker.io"], "docker.io", False, False),
    ],
)
def test_a_registry_that_is_named_is_reached_in_its_own_way(
    given: list[str], host: str, http: bool, verify: bool | str
) -> None:
    reached = Transport(verify="/ca.pem", insecure=insecure_hosts(given)).to(host)
    assert (reached.http, reached.verify) == (http, verify)


def test_a_registry_without_tls_stays_so_where_certificates_need_not_be_valid() -> None:
    assert Transport(http=True, insecure=insecure_hosts(["localhost:5000"])).to("localhost:5000").http


@pytest.mark.parametrize("text", ["", "http://", "quay.io/org", "me:secret@quay.io", "ftp://quay.io"])
def test_what_is_not_a_registry_is_refused(text: str) -> None:
    with pytest.raises(InvalidReference) as refused:
        insecure_hosts([text])
    assert "[http://]HOST[:PORT]" in str(refused.value)
    assert "secret" not in str(refused.value)
