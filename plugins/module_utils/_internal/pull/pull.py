# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The use-case ``pull``: images to SIF files in the store, built or fetched as they are, and into the inventory."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future

from ..errors import SregistryError, StorageError
from ..fs import stale
from ..inventory import storage
from ..late import importing
from ..oci.reference import Reference
from .image_pull import ImagePull
from .outcome import PullOutcome
from .request import PullRequest
from .session import Session


def pull(session: Session, request: PullRequest, references: Sequence[Reference]) -> dict[Reference, PullOutcome]:
    """Make sure that each image's file is there and is what its name points at.

    All names are resolved in parallel, all layers fetched in parallel and each once. Files are built one after the
    other, each by all processors, in the order of the names, while layers still arrive.

    :raises StorageError: if two images would share one file.
    """
    paths = _paths_of(request, references)
    images = [
        ImagePull(session, request, PullOutcome(reference, session.platform, progress=session.progress), path)
        for reference, path in paths.items()
    ]
    session.in_parallel(ImagePull.decide, images)
    _need_disk_space(session, images)
    work = [] if session.check else [image for image in images if image.plan]
    if request.fills_cache:
        session.in_parallel(ImagePull.publish, [image for image in images if image not in work])
    if work:
        session.progress.images, session.progress.done = len(images), len(images) - len(work)
        _carry_out(session, work)
    return {image.outcome.reference: image.conclude() for image in images}


def _paths_of(request: PullRequest, references: Sequence[Reference]) -> dict[Reference, str]:
    many = len(set(references)) > 1
    paths = {reference: storage.place(request.storage, reference, request.dest, many) for reference in references}
    owners: dict[str, Reference] = {}
    for reference, path in paths.items():
        other = owners.setdefault(path, reference)
        if other != reference:
            raise StorageError(
                f"{other} and {reference} would share the file {path}; pull one of them with another dest"
            )
    return paths


def _need_disk_space(session: Session, images: Sequence[ImagePull]) -> None:
    """Fail all images whose files have to be made, if there is no room for all of them: nothing is begun then."""
    making = {image: image.plan for image in images if image.plan and image.plan.make}
    if not making:
        return
    with importing:
        from .disk_space import need_disk_space  # most runs make nothing, and need no code for it

    if not session.check:  # a killed run may have left more than there is room for now
        for image in making:
            stale.remove_files(image.path)
    try:
        need_disk_space(session, list(making.values()))
    except SregistryError as error:
        for image in making:
            image.fail(error)


def _carry_out(session: Session, images: Sequence[ImagePull]) -> None:
    """Fetch for all images at once, and make one file after the other; what is made is published meanwhile."""
    with importing:
        from .layer_download import threads_for  # most runs change nothing, and need not know how

    published: list[Future[None]] = []
    with threads_for(session) as pool:
        for image in images:
            image.prefetch(pool)
        for image in images:
            image.produce()
            published.append(pool.submit(image.publish))
            session.progress.done += 1
        for ended in published:
            ended.result()
