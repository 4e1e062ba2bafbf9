# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The outcome of a run for one image: the base of the outcomes of pulls, builds and changes, and how it is shown."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field
from typing import Any

from ..errors import SregistryError
from ..oci.platform import Platform
from ..oci.reference import Reference
from ..secrecy import masked
from .document import Document, File

PRESENT, RECORDED, FAILED = "present", "recorded", "failed"
"""Actions: nothing had to be done; only the inventory changed; nothing was done because of an error."""


@dataclass
class Outcome:
    """The outcome for one image: what was done, the state before and after, the warnings and the error.

    :ivar before, after: the documents of the image; ``after`` is None where it is as before.
    :ivar path: of the file.
    :ivar attributes: owner, group and mode of the file, before and after, where they change.
    :ivar seconds: the time of each step.
    :ivar backup_file: the path that a replaced file has now.
    """

    reference: Reference | None = None
    platform: Platform | None = None
    changed: bool = False
    action: str = "none"
    path: str | None = None
    before: Document | None = None
    after: Document | None = None
    warnings: list[str] = field(default_factory=list)
    error: SregistryError | None = None
    traceback: str | None = None
    backup_file: str | None = None
    attributes: dict[str, dict[str, Any]] = field(default_factory=lambda: {"before": {}, "after": {}})
    seconds: dict[str, float] = field(default_factory=dict)

    def catching(self) -> _Catching:
        """Keep an error of a block with its image: the work on the other images goes on."""
        return _Catching(self)

    def fail(self, error: SregistryError) -> None:
        """Note that the work failed, and why; it does not count as a change then."""
        self.error, self.changed, self.action = error, False, FAILED

    @property
    def document(self) -> Document | None:
        """The document that the inventory has in the end."""
        return self.after or self.before

    @property
    def file(self) -> File | None:
        """The file at the path, as the newest document that has one there describes it."""
        path = self.path or ""
        return (self.after and self.after.file(path)) or (self.before and self.before.file(path)) or None

    @property
    def failure(self) -> dict[str, str]:
        """The keys of a result that tell of an error; none where there is no error."""
        told = {"error": str(self.error)} if self.error else {}
        return {**told, "traceback": self.traceback} if self.traceback else told

    def to_result(self, name: str) -> dict[str, Any]:
        """Return the image as a module returns it.

        :param name: as the user wrote it.
        """
        file = self.file
        return {
            "name": name,
            "reference": self.reference.uri if self.reference else None,
            "platform": str(self.platform) if self.platform else None,
            "changed": self.changed,
            "action": self.action,
            "path": self.path,
            "size": file.size if file else None,
            "sha256": file.sha256 if file else None,
            **self._details(),
            **({"backup_file": self.backup_file} if self.backup_file else {}),
            **self.failure,
        }

    def to_diff(self) -> dict[str, Any]:
        """Return the image before and after, in the form that Ansible shows with ``--diff``."""
        header = self._header()
        before, after = self._facets()
        return {
            "before_header": header,
            "after_header": header,
            "before": {**before, **self.attributes["before"]},
            "after": {**after, **self.attributes["after"]},
        }

    def _details(self) -> dict[str, Any]:
        """Return the keys of a result that only outcomes of this kind have."""
        return {}

    def _header(self) -> str:
        """Return the title of the difference."""
        return self.reference.uri if self.reference else str(self.path)

    def _facets(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the two sides of the difference, without owner, group and mode."""
        raise NotImplementedError


@dataclass(frozen=True)
class _Catching:
    """A block whose error is that of one outcome."""

    outcome: Outcome

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        if isinstance(error, SregistryError):
            self.outcome.fail(error)
        elif isinstance(error, Exception):  # a fault of ours is one image's as well
            self.outcome.traceback = masked(traceback.format_exc())
            why = masked(f"{type(error).__name__}: {error}")
            self.outcome.fail(SregistryError(f"internal error, {why}; please report it with the image's name"))
        return isinstance(error, Exception)
