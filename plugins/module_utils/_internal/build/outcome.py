# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What becomes of a build: what was there, whether it serves, what a new one replaces."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from ..errors import EngineError
from ..fs.files import need_writable
from ..inventory import storage
from ..inventory.document import File
from ..inventory.outcome import PRESENT
from ..inventory.replace import BUILD, Newcomer, Occupant, need_replaceable
from ..pull.outcome import PullOutcome
from ..pull.plan import REBUILT, REPAIRED
from ..pull.resolve import to_merged
from ..pull.session import Session
from ..sif.formats import SANDBOX
from .request import BuildRequest
from .source import FREE

BUILT = "built"


@dataclass
class BuildOutcome(PullOutcome):
    """What became of a build. Its difference is that of its inputs, and of the definition in the image."""

    target: str = ""
    inputs_before: dict[str, str] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    text_before: str | None = None
    text: str | None = None

    def _details(self) -> dict[str, Any]:
        return {**super()._details(), "inputs": self.inputs or self.inputs_before}

    def _header(self) -> str:
        return self.target

    def _facets(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the inputs and the definition before and after; each definition as a list of lines."""
        there = {"path": self.path_before} if self.path_before else {}
        inputs = self.inputs or self.inputs_before
        known = {name: value for name, value in self.inputs_before.items() if name in inputs or name not in FREE}
        before: dict[str, Any] = {**there, **known}
        after: dict[str, Any] = {"path": self.target, **inputs}
        if self.text is not None and self.text_before != self.text:
            after["text"] = self.text.splitlines()
            if self.text_before is not None:
                before["text"] = self.text_before.splitlines()
        return before, after

    def look_up(self, session: Session) -> tuple[File | None, File | None]:
        """The file that is recorded at the path under the name of the build; or else that of another name."""
        document = self.before = session.inventory.get(*self.key)
        own = document.file(self.target) if document else None
        if own:
            return own, None
        for owner in session.inventory.owners(self.target):
            self.displaced = owner
            return None, owner.file(self.target)
        return None, None

    def decide(self, session: Session, request: BuildRequest, file: File | None, state: str) -> None:
        """Name what a build would do, and refuse what could not end well.

        :param file: what is recorded at the path, and its ``state``.
        :raises StorageError: if what is there must not be replaced, or nothing can be written.
        :raises EngineError: if there is no engine; in check mode that is a warning.
        """
        self.changed = True
        self.action = BUILT if file is None else REBUILT if state == storage.PRESENT else REPAIRED
        if os.path.lexists(request.path):
            self.path_before = request.path
            newcomer = Newcomer(BUILD, request.force, bool(request.store), request.format == SANDBOX)
            owners = (self.displaced,) if self.displaced else ()
            intact = file is not None and state == storage.PRESENT
            need_replaceable(newcomer, Occupant(request.path, self.before, owners, intact))
        need_writable(os.path.dirname(request.path))
        need_writable(request.toolchain.tmpdir)
        try:
            request.toolchain.need_programs(packer=False)
        except EngineError as error:
            if not session.check:
                raise
            self.warnings.append(str(error))

    def enter(self, session: Session, file: File) -> None:
        """Enter what was built into the inventory, with the files that the image has by now."""
        if self.after:
            self.after = session.enter(to_merged(self.after, session.inventory.get(*self.key)).with_file(file))

    def leave(self, session: Session) -> None:
        """Do nothing: another run did the work while this one waited for the lock."""
        self.after, self.changed, self.action = session.inventory.get(*self.key), False, PRESENT
