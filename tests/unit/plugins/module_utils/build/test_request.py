# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The name that a build has in the inventory where nobody gave it one."""

from __future__ import annotations

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.build.request import local_reference
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import InvalidReference
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.inventory.selector import Selector
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.reference import Reference


def test_names_made_from_paths_differ_as_paths_do() -> None:
    paths = ["/a", "/a/b", "/a+b", "/a%2Fb", "/a:b", "/a,b", "/ä", "/a b", "/\udcff", "/" + "x" * 4000, "/A"]
    names = [local_reference(path) for path in paths]
    assert len({name.uri for name in names}) == len(paths)
    assert all(name.uri.isascii() and name.uri.startswith("build://localhost/") for name in names)
    assert local_reference("/opt/app.sif").uri == "build://localhost/opt/app.sif:latest"


@pytest.mark.parametrize("path", ["/opt/app.sif", "/a+b c", "/a%2Fb:c,d", "/ä/\udcff", "/" + "x" * 4000])
def test_a_name_made_from_a_path_is_read_as_the_inventory_shows_it(path: str) -> None:
    name = local_reference(path)
    assert Reference.parse_known(name.uri, "registry.example.org") == name
    assert Selector.parse(name.uri).includes(name.uri)
    assert Selector.parse("build://localhost/*").includes(name.uri)


@pytest.mark.parametrize(
    "text", ["build://other/opt/app.sif:latest", "build://localhost/opt/app.sif", "build://localhost/opt/app.sif:1"]
)
def test_what_no_build_is_called_is_no_known_name(text: str) -> None:
    with pytest.raises(InvalidReference, match="built on this host without a name"):
        Reference.parse_known(text)


def test_no_registry_is_asked_for_a_name_made_from_a_path() -> None:
    with pytest.raises(InvalidReference, match="built on this host without a name; no registry has it"):
        Reference.parse("build://localhost/opt/app.sif:latest")
