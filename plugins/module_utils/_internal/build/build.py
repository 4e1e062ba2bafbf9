# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The use-case ``build``: SIF files and sandboxes from images in registries, definitions, and images on this host."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable

from ..errors import InvalidDefinition, InvalidReference, StorageError
from ..inventory import storage
from ..inventory.document import Document, File
from ..inventory.outcome import PRESENT, RECORDED
from ..oci.reference import Reference
from ..pull.destination import locked
from ..pull.outcome import PullOutcome
from ..pull.pull import pull
from ..pull.request import ALWAYS, PullRequest
from ..pull.session import Session
from ..sif.formats import SANDBOX
from .engine_build import build_by_engine
from .outcome import BUILT, BuildOutcome
from .request import BuildRequest, local_reference
from .sandbox import unpack_sandbox
from .source import BuildSource, agree, inputs_of, login_for, read_source
from .target import definition_in


def create(session: Session, request: BuildRequest) -> PullOutcome:
    """Make sure that an image is at a path, and that it is what its source gives now.

    :raises SregistryError: if the request makes no sense; what goes wrong later is in the outcome.
    """
    path = request.path
    if not os.path.isabs(path):
        raise StorageError(f"{path!r} is no absolute path; write path with a leading '/'")
    request = dataclasses.replace(request, path=os.path.normpath(path))
    image = request.image
    if image is None:
        return _attempt(session, request, request.name or local_reference(request.path), _create)
    _refuse_useless(request)
    if request.format == SANDBOX:
        return _attempt(session, request, image, unpack_sandbox)
    return _pull(session, request, image)


def _refuse_useless(request: BuildRequest) -> None:
    """Refuse what means nothing for an image in a registry."""
    if request.name:
        raise InvalidReference(
            f"{request.source} is in the inventory by its own name, as each image in a registry; leave name out, and "
            "give path if it shall not lie where that name puts it"
        )
    if request.arguments or request.sections or request.fakeroot:
        raise InvalidDefinition(
            f"{request.source} is no definition, and is not run: build_args, sections and fakeroot mean nothing for it"
        )


def _pull(session: Session, request: BuildRequest, image: Reference) -> PullOutcome:
    if os.path.isdir(request.path):
        raise StorageError(f"{request.path} is a directory; remove it, or give another path for the file")
    wanted = PullRequest(
        storage=request.store or os.path.dirname(request.path),
        dest=None if request.store else request.path,
        policy=ALWAYS,
        checksum=request.checksum,
        force=request.force,
        toolchain=request.toolchain,
        prepare=request.prepare,
        backup=request.backup,
    )
    return pull(session, wanted, [image])[image]


def _attempt(
    session: Session,
    request: BuildRequest,
    reference: Reference,
    work: Callable[[Session, BuildRequest, BuildOutcome], None],
) -> BuildOutcome:
    outcome = BuildOutcome(reference, session.platform, path=request.path, target=request.path)
    with outcome.clock("total"), outcome.catching():
        work(session, request, outcome)
    return outcome


def _create(session: Session, request: BuildRequest, outcome: BuildOutcome) -> None:
    """Let the engine build, if what is there has other inputs."""
    with outcome.clock("resolve"):
        source = _read_source(session, request, outcome)
        if source is None:
            return
        login = login_for(session, source)
        inputs = outcome.inputs = inputs_of(session, request, source)
        own, other = outcome.look_up(session)
        _decide(session, request, source, own, other, outcome)
    if outcome.action == PRESENT:
        return
    outcome.after = outcome.before or Document.local(outcome.reference, outcome.platform, url=request.source or "")
    if session.check:
        return
    with locked(session, outcome, request.path) as destination:
        latest = session.inventory.get(*outcome.key)
        found = latest.file(request.path) if latest else None
        if found and found != own and not request.force and _serves(request, found, inputs):
            outcome.leave(session)
        elif outcome.action == RECORDED and other:
            outcome.enter(session, other)
        else:
            outcome.enter(session, build_by_engine(session, request, source, login, outcome))
        if outcome.changed:
            destination.take_from_others()


def _read_source(session: Session, request: BuildRequest, outcome: BuildOutcome) -> BuildSource | None:
    """What is to be built; None if that cannot be told in check mode, since something is not there yet.

    :raises StorageError: if something is not there, and nothing will bring it.
    """
    source = read_source(request)
    if source:
        outcome.warnings.extend(source.check())
    missing = ", ".join(source.missing()) if source else str(request.source)
    if source and not missing:
        return source
    if not session.check:
        raise StorageError(f"there is no {missing} on this host; put it there in a task before, or correct the name")
    outcome.warnings.append(f"there is no {missing} on this host yet")  # a task before may be what brings it
    outcome.action, outcome.changed = BUILT, True
    return None


def _decide(
    session: Session,
    request: BuildRequest,
    source: BuildSource,
    own: File | None,
    other: File | None,
    outcome: BuildOutcome,
) -> None:
    """Name what is to be done.

    :param own, other: what is recorded at the path, under this name or another one.
    """
    file = own or other
    outcome.inputs_before = dict(file.inputs) if file else {}
    if file and not request.force and _serves(request, file, outcome.inputs):
        outcome.path_before, outcome.inputs = request.path, {}
        outcome.action, outcome.changed = (PRESENT, False) if own else (RECORDED, True)
        return
    outcome.decide(session, request, file, file.state(request.checksum) if file else storage.MISSING)
    outcome.text = None if source.text is None else source.definition.text
    outcome.text_before = definition_in(request.path) if outcome.path_before else None


def _serves(request: BuildRequest, file: File, inputs: dict[str, str]) -> bool:
    """Whether a file is there, and what a build would give."""
    return agree(file.inputs, inputs) and file.state(request.checksum) == storage.PRESENT
