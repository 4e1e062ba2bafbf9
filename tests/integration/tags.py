# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tags in the plain registry that are one test's own."""

from __future__ import annotations

import uuid

from tests import lab
from tests.lab import catalogue, oci, tree


class Tag:
    """A tag of a repository of its own, so that requests for it are this test's."""

    def __init__(self) -> None:
        self.repository = f"test/{uuid.uuid4().hex}"
        self.name = f"{self.repository}:1"
        self.offset = 0

    def push(self, words: str) -> str:
        """Put an image that says some words under the tag; returns the digest of its manifest."""
        layer = oci.layer(tree.Tree().file("words", f"{words}\n").tar())
        return lab.push(self.name, catalogue.tiny_with(layer, Cmd=["/bin/busybox", "cat", "/words"]))

    def listen(self) -> None:
        """Forget the requests so far."""
        self.offset = lab.log_offset("plain")

    def heard(self) -> list[str]:
        """Return the requests for this repository since, as ``METHOD kind``."""
        found = lab.requests_of("plain", since=self.offset)
        paths = [(request.method, request.path) for request in found if f"/{self.repository}/" in request.path]
        return [f"{method} {path.split('/')[-2]}" for method, path in paths]
