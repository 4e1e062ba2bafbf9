# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The pull of one image: decided, prefetched, produced, published, and in the end written into its outcome."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from ..errors import SregistryError
from ..fs import guard
from ..inventory.outcome import PRESENT
from ..late import importing
from .job import PUSHED, Job
from .outcome import PullOutcome
from .plan import Decision, Plan, decide, need_signable

if TYPE_CHECKING:
    from .production import Production


class ImagePull(Job):
    """The pull of one image, step by step. No step raises: an error is that of this image alone, in its outcome."""

    decision: Decision | None = None
    _production: Production | None = None
    _done: str = ""  # the action that was done, or in check mode would be

    @property
    def plan(self) -> Plan | None:
        """The work that is to be done; None if there is none, or an error."""
        return self.decision.plan if self.decision and not self.outcome.error else None

    def decide(self) -> None:
        """Look up what is there, and decide what is to be done."""
        request, outcome = self.request, self.outcome
        with outcome.clock("total"), outcome.catching():
            need_signable(request, outcome.reference)
            guard.need_way(self.path, request.storage if request.dest is None else "")
            self.before = self.session.inventory.get(*outcome.key)
            outcome.path = self.path  # only now: root must not act on a path that it refused
            self.decision = decision = decide(self)
            self.replaced, self.cached = decision.replaced, decision.cached
            if decision.plan:
                self.after = decision.plan.after
            if self.session.check or not decision.plan:
                self._done = decision.action

    def fail(self, error: SregistryError) -> None:
        """Note that nothing is done, and why."""
        self._done = ""
        self.outcome.fail(error)

    def prefetch(self, pool: ThreadPoolExecutor) -> None:
        """Begin to fetch what the file is made from."""
        with importing:
            from .production import Production  # most runs change nothing, and need not know how

        with self.outcome.catching():
            if self.decision and self.plan:
                self._production = Production(self, self.decision, self.plan)
                self._production.prefetch(pool)

    def produce(self) -> None:
        """Make the file, if that is to be done, and write the document."""
        production, self._production = self._production, None
        with self.outcome.clock("total"), self.outcome.catching():
            if production and not self.outcome.error:
                self._done = production.carry_out()

    def publish(self) -> None:
        """Put the file into the SIF cache, if that is asked for. What was done here stays done if that fails."""
        outcome, plan, document = self.outcome, self.plan, self.after or self.before
        if not self.request.fills_cache or outcome.reference.is_sif or outcome.error:
            return
        with importing:
            from . import sif_cache_policy  # most runs have no such cache

        with outcome.clock("total"), outcome.catching():
            file = document.file(self.path) if document else None
            if self.session.check and plan and plan.make:
                self.cached = sif_cache_policy.foresee(self, plan.image, plan.lost)
            elif document and file:
                self.cached = sif_cache_policy.publish(self, document, file, plan.image if plan else None)

    def conclude(self) -> PullOutcome:
        """Return the outcome. What was done counts as done also where the file could not be published."""
        outcome, done, pushed = self.outcome, self._done, self.cached.state == PUSHED
        return dataclasses.replace(
            outcome,
            action=outcome.action if outcome.error else PUSHED if pushed and done == PRESENT else done,
            changed=pushed or done not in ("", PRESENT),
            before=self.before,
            after=self.after,
            path_before=self.replaced.path,
            displaced=self.replaced.owner,
            builder=self.builder,
            sif_cache=self.cached.state,
            backup_file=self.backup_file,
        )
