# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The run of one build: what is there is compared with its source, then it is built, and at the end has an outcome."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..errors import EngineError
from ..fs.files import need_writable
from ..inventory import storage
from ..inventory.document import Document, File
from ..inventory.outcome import PRESENT
from ..inventory.replace_rules import BUILD, Newcomer, Occupant, need_replaceable
from ..oci.reference import Reference
from ..pull.destination import lock_destination
from ..pull.plan import REBUILT, REPAIRED
from ..pull.resolve import to_merged
from ..pull.session import Session
from ..sif.formats import SANDBOX
from .outcome import BuildOutcome
from .request import BuildRequest
from .target import Target

BUILT = "built"


@dataclass(frozen=True)
class Existing:
    """The things that the inventory knows of the path of a build.

    :ivar document: of the image that is built.
    :ivar file: of that image, at the path.
    :ivar owner: another image that has a file at the path; None if the path is this image's own.
    """

    document: Document | None = None
    file: File | None = None
    owner: Document | None = None

    @classmethod
    def at(cls, session: Session, outcome: BuildOutcome, path: str) -> Existing:
        """Look the path up."""
        document = session.inventory.get(*outcome.key)
        file = document.file(path) if document else None
        return cls(document, file, None if file else next(iter(session.inventory.owners(path)), None))


@dataclass(frozen=True)
class BuildDecision:
    """The decision what to do.

    :ivar after: the document that there will be; None if it stays as it is, or is not known yet.
    :ivar inputs: of a build now; empty where the file that is there has the same.
    :ivar path_before: the path, if something is there that the image replaces or is.
    :ivar text, text_before: the definition of the source, and that in the image which is there.
    :ivar recorded: a file that needs nothing but to be recorded.
    """

    action: str
    after: Document | None = None
    inputs: Mapping[str, str] = field(default_factory=dict)
    path_before: str | None = None
    text: str | None = None
    text_before: str | None = None
    recorded: File | None = None


class BuildRun:
    """The state of one build: what is there, what was decided, and what was done."""

    def __init__(self, session: Session, request: BuildRequest, reference: Reference) -> None:
        self.session = session
        self.request = request
        self.outcome = BuildOutcome(reference, session.platform, path=request.path)
        self.target = Target(request)
        self.existing = Existing()
        self.inputs_before: Mapping[str, str] = {}
        self.inputs: Mapping[str, str] = {}
        self._decision: BuildDecision | None = None
        self._done: BuildDecision | None = None  # as it was carried out, or in check mode would be

    def run(self) -> BuildOutcome:
        """Decide, build, and return the outcome, which has the error if there is one."""
        with self.outcome.clock("total"), self.outcome.catching():
            self._decision = decision = self._decide()
            changes = decision.action != PRESENT and not self.session.check
            self._done = self._carry_out(decision) if changes else decision
        return self._conclude()

    def _decide(self) -> BuildDecision:
        """Compare what is there with what a build would give.

        :raises SregistryError: if a build could not end well.
        """
        raise NotImplementedError

    def _was_done(self, decision: BuildDecision, file: File) -> bool:
        """Tell whether another run, which this one has waited for, has made the file that was decided on."""
        raise NotImplementedError

    def _make(self) -> tuple[File, Mapping[str, str]]:
        """Make the file or directory, put it into its place, and return it with the inputs of the build."""
        raise NotImplementedError

    def _foresee(self, file: File | None, intact: bool) -> tuple[str, str | None]:
        """Return the action of a build, and the path if something is there to be replaced.

        :param file: what is recorded at the path.
        :param intact: whether it is there and unchanged.
        :raises StorageError: if what is there must not be replaced, or nothing can be written.
        :raises EngineError: if there is no engine; in check mode that is a warning.
        """
        request, existing = self.request, self.existing
        there = os.path.lexists(request.path)
        if there:
            newcomer = Newcomer(BUILD, request.force, bool(request.store), request.format == SANDBOX)
            owners = (existing.owner,) if existing.owner else ()
            need_replaceable(newcomer, Occupant(request.path, existing.document, owners, intact))
        need_writable(os.path.dirname(request.path))
        need_writable(request.toolchain.tmpdir)
        try:
            request.toolchain.need_programs(packer=False)
        except EngineError as error:
            if not self.session.check:
                raise
            self.outcome.warnings.append(str(error))
        action = BUILT if file is None else REBUILT if intact else REPAIRED
        return action, request.path if there else None

    def _carry_out(self, decision: BuildDecision) -> BuildDecision:
        """Do what was decided, unless another run has done it meanwhile, and return what was done."""
        session, path = self.session, self.request.path
        with lock_destination(session, self.outcome, path) as destination:
            latest = session.inventory.get(*self.outcome.key)
            found = latest.file(path) if latest else None
            if found and found != self.existing.file and not self.request.force and self._was_done(decision, found):
                return dataclasses.replace(decision, action=PRESENT, after=latest)
            if decision.recorded:
                file, inputs = found or decision.recorded, decision.inputs
            else:
                file, inputs = self._make()
            document = to_merged(decision.after, latest) if decision.after else None
            after = session.enter(document.with_file(file)) if document else None
            destination.take_from_others()
            return dataclasses.replace(decision, after=after, inputs=inputs)

    def _conclude(self) -> BuildOutcome:
        outcome, state = self.outcome, self._done or self._decision
        return dataclasses.replace(
            outcome,
            action=outcome.action if outcome.error or not state else state.action,
            changed=bool(not outcome.error and state and state.action != PRESENT),
            before=self.existing.document,
            after=state.after if state else None,
            path_before=state.path_before if state else None,
            backup_file=self.target.backup_file,
            inputs_before=self.inputs_before,
            inputs=state.inputs if state else self.inputs,
            text=state.text if state else None,
            text_before=state.text_before if state else None,
        )


def is_present(request: BuildRequest, file: File | None) -> bool:
    """Tell whether a file is there, and as it was recorded."""
    return file is not None and file.state(request.checksum) == storage.PRESENT
