# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The production of the file of one image: it is made, put in its place, and its document is written."""

from __future__ import annotations

import dataclasses
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from ..errors import InvalidSif, PlatformNotFound, RegistryError
from ..fs.files import make_directory
from ..inventory.document import Document, File
from ..inventory.outcome import PRESENT
from .destination import lock_destination, need_destination
from .job import MISS, CacheResult, Job, Replaced
from .plan import Decision, Plan, is_kept, search_cache, serves
from .producer import CacheProducer, Producer, finish_file, producer_of
from .resolve import to_merged


class Production:
    """The production of the file of one image, or of its document alone. The job tells what came of it."""

    def __init__(self, job: Job, decision: Decision, plan: Plan) -> None:
        """
        :param plan: that of the decision.
        """
        self._job = job
        self._action = decision.action
        self._plan = plan
        self._before = job.before.file(job.path) if job.before else None
        self._producer: Producer | None = None

    def prefetch(self, pool: ThreadPoolExecutor) -> None:
        """Begin to fetch what the file is made from. Nothing is fetched for a file that this host has kept.

        :raises SregistryError: as ``Producer.prefetch``.
        """
        if self._plan.make and not is_kept(self._job.session, self._plan.lost):
            self._producer = producer_of(self._job, self._plan)
            self._producer.prefetch(pool)

    def carry_out(self) -> str:
        """Make the file and write the document, with both locked; return the action that was done.

        :raises SregistryError: if that fails; the file that was there is then as before.
        """
        job, plan, before, file = self._job, self._plan, self._before, None
        inventory = job.session.inventory
        with lock_destination(job.session, job.outcome, job.path) as destination:
            latest = inventory.get(*job.outcome.key)
            document = to_merged(plan.after, latest)
            if plan.make:
                if latest and self._was_done_meanwhile(latest):
                    job.after = latest
                    return PRESENT
                own = latest.file(job.path) if latest else None
                replaced = need_destination(job, latest)  # others had the path since the decision
                if not own:
                    job.replaced = Replaced(replaced.path or job.replaced.path, replaced.owner)
                file = self._make()
                if before and before.digest and before.digest != file.digest:
                    job.session.cache.forget(before.digest)  # what is replaced is kept no longer
                document = _with_made(document, file)
            came_again = file is not None and file is plan.fresh
            if came_again and latest:  # what the web server tells of it now may spare that the next time
                inventory.put(dataclasses.replace(document, updated_at=latest.updated_at))
                job.after = None
                return PRESENT
            job.after = job.session.enter(document)
            if file and not came_again:
                destination.take_from_others()
        return PRESENT if came_again else self._action

    def _was_done_meanwhile(self, latest: Document) -> bool:
        """Tell whether another run did the work while this one waited for the lock.

        :raises EngineError, InvalidSif: if the file is not signed as it has to be.
        """
        file, request = latest.file(self._job.path), self._job.request
        if file is None or file == self._before or not serves(request, latest, file, self._plan.image):
            return False
        if request.trust:
            request.trust.verify(file.path, file.path)
        return True

    def _make(self) -> File:
        job, plan, producer = self._job, self._plan, self._producer
        if plan.lost and self._restore(plan.lost):
            return dataclasses.replace(plan.lost, mtime_ns=os.stat(job.path).st_mtime_ns)
        if not producer:  # the file was to be restored, and turned out to be damaged
            job.cached = search_cache(job, plan.image, None, CacheResult(job.cached.state))
            producer = producer_of(job, plan)
        try:
            return producer.produce()
        except (RegistryError, InvalidSif, PlatformNotFound) as error:
            if not isinstance(producer, CacheProducer) or producer.cache.required:
                raise
            job.outcome.warnings.append(f"the SIF cache {producer.cache} could not be used: {error}")
        job.cached = CacheResult(MISS)
        return producer_of(job, plan).produce()

    def _restore(self, lost: File) -> bool:
        """Restore a file that was lost from the cache; tell whether it was there."""
        job = self._job
        if lost.digest is None:
            return False
        with job.outcome.clock("restore"):
            make_directory(os.path.dirname(job.path))
            return job.session.cache.give(lost.digest, job.path, partial(finish_file, job))


def _with_made(document: Document, file: File) -> Document:
    """Return a document with a new file, whose digest is that of what lies on a web server: nothing told it before."""
    if document.reference.from_web:
        document = dataclasses.replace(document, digest=file.manifest_digest, manifest_digest=file.manifest_digest)
    return document.with_file(file)
