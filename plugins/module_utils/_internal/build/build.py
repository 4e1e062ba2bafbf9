# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The use-case ``build``: SIF files and sandboxes from images in registries, definitions, and images on this host."""

from __future__ import annotations

import dataclasses
import os

from ..errors import InvalidDefinition, InvalidReference, StorageError
from ..oci.reference import Reference
from ..pull.outcome import PullOutcome
from ..pull.pull import pull
from ..pull.request import ALWAYS, PullRequest
from ..pull.session import Session
from ..sif.formats import SANDBOX
from .engine_build import EngineBuild
from .request import BuildRequest, local_reference
from .sandbox import SandboxBuild


def create(session: Session, request: BuildRequest) -> PullOutcome:
    """Make sure that an image is at a path, and that it is what its source gives now.

    :raises SregistryError: if the request makes no sense; a later error is in the outcome.
    """
    path = request.path
    if not os.path.isabs(path):
        raise StorageError(f"{path!r} is not an absolute path; write path with a leading '/'")
    request = dataclasses.replace(request, path=os.path.normpath(path))
    image = request.image
    if image is None:
        return EngineBuild(session, request, request.name or local_reference(request.path)).run()
    _need_options_that_count(request)
    if request.format == SANDBOX:
        return SandboxBuild(session, request, image).run()
    return _pull(session, request, image)


def _need_options_that_count(request: BuildRequest) -> None:
    """Raise if there are options that mean nothing for an image in a registry."""
    if request.name:
        raise InvalidReference(
            f"{request.source} is in the inventory by its own name, as each image in a registry; leave name out, and "
            "give path if it must not lie where that name puts it"
        )
    if request.arguments or request.sections or request.fakeroot:
        raise InvalidDefinition(
            f"{request.source} is not a definition, and is not run: build_args, sections and fakeroot mean nothing for "
            "it"
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
