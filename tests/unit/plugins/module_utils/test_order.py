# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The name that a build has in the inventory where nobody gave it one."""

from __future__ import annotations

from ansible_collections.hpc.sregistry.plugins.module_utils.order import reference_of


def test_names_made_from_paths_differ_as_paths_do() -> None:
    paths = ["/a", "/a/b", "/a+b", "/a%2Fb", "/a:b", "/a,b", "/ä", "/a b", "/\udcff", "/" + "x" * 4000, "/A"]
    names = [reference_of(path) for path in paths]
    assert len({name.uri for name in names}) == len(paths)
    assert all(name.uri.isascii() and name.uri.startswith("build://localhost/") for name in names)
    assert reference_of("/opt/app.sif").uri == "build://localhost/opt/app.sif:latest"
