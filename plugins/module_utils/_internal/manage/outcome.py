# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The outcome of a change to one image that is on the host already: added, removed or renamed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..inventory.document import Document
from ..inventory.outcome import PRESENT, Outcome

ABSENT = "absent"


@dataclass
class ChangeOutcome(Outcome):
    """The outcome of a change to one image.

    :ivar name: the image as the user wrote it.
    """

    action: str = PRESENT
    name: str = ""

    def _header(self) -> str:
        return self.reference.uri if self.reference else self.name

    def _facets(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return _facet(self.before), _facet(self.document)


def _facet(document: Document | None) -> dict[str, Any]:
    """Return what a difference shows of an image: its name, its origin, and its files with their checksums."""
    if document is None:
        return {}
    return {
        "reference": document.reference.uri,
        "platform": str(document.platform),
        "client": document.client,
        "files": {file.path: file.sha256 for file in document.files},
    }
