# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What becomes of one image that is on the host already: added, removed, renamed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..errors import SregistryError
from ..inventory.document import Document, File
from ..pull.attempt import Attempt

ABSENT, PRESENT = "absent", "present"


@dataclass
class Change(Attempt):
    """What became of one image.

    ``name`` is the image as the user wrote it, ``before`` and ``after`` are what a difference shows, ``document`` is
    what the inventory says in the end, ``attributes`` the owner, group and mode of the file where they change,
    ``dropped`` the digests of files that the cache keeps no longer.
    """

    name: str
    uri: str | None = None
    platform: str | None = None
    changed: bool = False
    action: str = PRESENT
    path: str | None = None
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)
    document: Document | None = None
    file: File | None = None
    more: dict[str, Any] = field(default_factory=dict)
    dropped: set[str] = field(default_factory=set)
    warnings: list[str] = field(default_factory=list)
    error: SregistryError | None = None
    traceback: str | None = None
    attributes: dict[str, dict[str, Any]] = field(default_factory=lambda: {"before": {}, "after": {}})

    def to_result(self) -> dict[str, Any]:
        """The image as a module returns it."""
        result: dict[str, Any] = {
            "name": self.name,
            "reference": self.uri,
            "platform": self.platform,
            "changed": self.changed,
            "action": self.action,
            "path": self.path,
            "size": self.file.size if self.file else None,
            "sha256": self.file.sha256 if self.file else None,
            **self.more,
        }
        return {**result, **self.failure}

    def to_diff(self) -> dict[str, Any]:
        """The image before and after, in the form that Ansible shows with ``--diff``."""
        header = self.uri or self.name
        return {
            "before_header": header,
            "after_header": header,
            "before": {**self.before, **self.attributes["before"]},
            "after": {**self.after, **self.attributes["after"]},
        }


def facet(document: Document | None) -> dict[str, Any]:
    """What a difference shows of an image: its name, where it is from, and its files with their checksums."""
    if document is None:
        return {}
    return {
        "reference": document.reference.uri,
        "platform": str(document.platform),
        "client": document.client,
        "files": {file.path: file.sha256 for file in document.files},
    }
