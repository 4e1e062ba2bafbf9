# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The use-case ``build`` for a sandbox of an image in a registry: nothing of it is run, the engine writes its part."""

from __future__ import annotations

import os

from ..errors import InvalidReference
from ..fs.files import make_directory
from ..inventory import storage
from ..inventory.document import Document, File
from ..inventory.outcome import PRESENT, RECORDED
from ..late import importing
from ..oci.blobs import Arrival
from ..pull.destination import locked
from ..pull.layer_download import Delivery, threads_for
from ..pull.resolve import is_current, resolve, to_document, to_merged
from ..pull.session import Session
from ..registry.image import ResolvedImage
from ..sif.formats import SANDBOX
from ..sif.toolchain import VIA_SANDBOX
from .outcome import BuildOutcome
from .request import BuildRequest
from .target import build_directory, install


def unpack_sandbox(session: Session, request: BuildRequest, outcome: BuildOutcome) -> None:
    """Make sure that the tree of an image is at a path.

    :raises SregistryError: if that fails; what was there is then as before.
    """
    image = _plan(session, request, outcome)
    if image is None or session.check:
        return
    with threads_for(session) as pool:
        delivery = Delivery(session, image, outcome)
        if outcome.action != RECORDED:
            delivery.begin(pool)
        with locked(session, outcome, request.path) as destination:
            latest = session.inventory.get(*outcome.key)
            if outcome.action == RECORDED and outcome.after:
                outcome.after = session.enter(to_merged(outcome.after, latest))
            elif latest and _was_done_meanwhile(request, outcome, latest, image):
                outcome.leave(session)
            else:
                outcome.enter(session, _written(session, request, delivery, outcome))
            if outcome.changed:
                destination.take_from_others()


def _plan(session: Session, request: BuildRequest, outcome: BuildOutcome) -> ResolvedImage | None:
    """Decide what to do; the image, or None if nothing is to be done."""
    reference = outcome.reference
    document = outcome.before = session.inventory.get(*outcome.key)
    file = document.file(request.path) if document else None
    outcome.inputs_before = _told(file)
    state = file.state(request.checksum) if file else storage.MISSING
    fresh = file if file and state == storage.PRESENT and _is_wanted(request, file) else None
    with outcome.clock("resolve"):
        known = document and fresh and fresh.manifest_digest == document.manifest_digest
        if document and known and is_current(session, reference, document):
            outcome.action, outcome.path_before = PRESENT, request.path
            return None
        image = resolve(session, reference, outcome)
        if not isinstance(image, ResolvedImage):
            raise InvalidReference(
                f"{reference} is a finished file and has no layers; pull it, and build the directory from that file"
            )
    outcome.after = to_document(image, session, document)
    outcome.inputs = {**_inputs(request), "from": f"{reference.url}@{image.manifest_digest}"}
    if fresh and fresh.manifest_digest == image.manifest_digest:
        outcome.action, outcome.changed, outcome.path_before = RECORDED, True, request.path
    else:
        outcome.decide(session, request, file or outcome.look_up(session)[1], state)
    return image


def _is_wanted(request: BuildRequest, file: File) -> bool:
    """Whether what is recorded is a sandbox that was made as it would be now."""
    return not request.force and file.inputs.get("format") == SANDBOX and request.toolchain.agrees(file.inputs)


def _inputs(request: BuildRequest) -> dict[str, str]:
    """What, besides the image, is asked for."""
    kind = request.toolchain.engine_kind
    asked = {name: value for name, value in request.toolchain.asked.items() if name in ("command", "reproducible")}
    return {"format": SANDBOX, **asked, **({"engine": kind} if kind else {})}


def _told(file: File | None) -> dict[str, str]:
    """The inputs of what is there, with the image that it was built from."""
    if file is None:
        return {}
    return {**file.inputs, **({"from": file.manifest_digest} if file.manifest_digest else {})}


def _was_done_meanwhile(request: BuildRequest, outcome: BuildOutcome, latest: Document, image: ResolvedImage) -> bool:
    """Whether another run did the work while this one waited for the lock."""
    before = outcome.before.file(request.path) if outcome.before else None
    file = latest.file(request.path)
    if file is None or file == before or request.force:
        return False
    return file.manifest_digest == image.manifest_digest


def _written(session: Session, request: BuildRequest, delivery: Delivery, outcome: BuildOutcome) -> File:
    with importing:
        from ..sif.builder import ImageBuild  # only a build needs it

    image, toolchain = delivery.image, request.toolchain
    inputs = toolchain.sandbox_inputs  # without an engine, it ends here
    make_directory(os.path.dirname(request.path))
    with build_directory(request, "", outcome.warnings) as place:
        roots = (os.path.join(place, str(number)) for number in range(1000))

        def write(arrival: Arrival) -> tuple[str, list[str]]:
            root = next(roots)
            os.mkdir(root)
            build = ImageBuild(image, session.cache, toolchain, arrival, outcome.clock, session.threads)
            return root, build.write_tree(root)

        root, warnings = delivery.serve(write)
        outcome.warnings.extend(warnings)
        size, mtime_ns, sha256 = install(request, root, outcome)
        return File.at(
            request.path,
            sha256,
            inputs,
            size=size,
            mtime_ns=mtime_ns,
            manifest_digest=image.manifest_digest,
            engine_version=toolchain.engine.version,
            builder=VIA_SANDBOX,
        )
