# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A build by the engine: its options, and the same build again where a base was moved meanwhile."""

from __future__ import annotations

import os
from dataclasses import dataclass

from ..engine.cli import BuildOptions, Engine
from ..errors import PackerError, RegistryError, StorageError
from ..fs import guard
from ..fs.files import make_directory, storage_error
from ..fs.tempdir import temporary_directory
from ..inventory.document import File
from ..oci.platform import Platform
from ..pull.session import Session
from ..sif.formats import SANDBOX, SIF
from ..transport.keychain import Login
from .outcome import BuildOutcome
from .request import BuildRequest
from .source import BuildSource
from .target import build_directory, install

_ATTEMPTS = 3  # builds of one run, where a base is moved while they go on
_PACKER_OPTION = ("build", "--mksquashfs-args")


def build_by_engine(
    session: Session, request: BuildRequest, source: BuildSource, login: Login | None, outcome: BuildOutcome
) -> File:
    """Build until no base was moved meanwhile, and put the result into its place. ``outcome.inputs`` are then those
    that it was built from.

    :raises EngineError, PackerError: if the engine cannot, or fails.
    :raises RegistryError: if bases are moved again and again.
    :raises StorageError, NoSpace: if it cannot be written.
    """
    engine = request.toolchain.engine
    make_directory(os.path.dirname(request.path))
    make_directory(request.toolchain.tmpdir)
    tmpdir = request.toolchain.tmpdir
    with temporary_directory(tmpdir) as work, build_directory(request, work, outcome.warnings) as place:
        packing = _packing(engine, request)
        options = _options(session, request, source, login, packing.arguments, work)
        # from its namespace, the engine cannot reach what is held here
        if options.fakeroot and guard.held_descriptor(place) is not None:
            raise StorageError(
                f"{os.path.dirname(request.path)} is not safe for a sandbox that root builds with fakeroot: a group "
                "may write there; give the directory the sticky bit (mode 3775), or give another path"
            )
        built = _built(session, engine, source, _given_to_engine(source, work), options, place, outcome)
        with outcome.clock("assemble"):
            size, mtime_ns, sha256 = install(request, built, outcome)
            inputs = {**outcome.inputs, **packing.inputs}
            return File.at(
                request.path,
                sha256,
                inputs,
                size=size,
                mtime_ns=mtime_ns,
                engine_version=engine.version,
                builder="engine",
            )


@dataclass(frozen=True)
class _Packing:
    """What the engine tells its packer, and the inputs that this is; nothing for the engine's own choice."""

    arguments: str | None
    inputs: dict[str, str]


def _packing(engine: Engine, request: BuildRequest) -> _Packing:
    """How a SIF is packed. The engine's own choice serves where ours is not asked for, and cannot be had.

    :raises EngineError: if this version of the engine takes no choice, but one is asked for.
    :raises PackerError: if there is no packer for it.
    """
    own, asked = _Packing(None, {}), "compression" in request.toolchain.asked
    if request.format != SIF:
        return own
    if not engine.dialect.knows(*_PACKER_OPTION):
        if asked:
            engine.dialect.option(*_PACKER_OPTION)  # says which version can
        return own
    try:
        packer = request.toolchain.packer
    except PackerError:
        if asked:
            raise
        return own
    level = {} if packer.level is None else {"level": str(packer.level)}
    return _Packing(packer.arguments, {"compression": packer.compression, **level})


def _options(
    session: Session,
    request: BuildRequest,
    source: BuildSource,
    login: Login | None,
    packer_arguments: str | None,
    work: str,
) -> BuildOptions:
    architecture = session.platform.architecture
    return BuildOptions(
        sandbox=request.format == SANDBOX,
        fakeroot=source.needs_fakeroot(request),
        no_test=not request.tests,
        sections=request.sections,
        arguments=request.arguments,
        packer_arguments=packer_arguments,
        architecture=None if Platform.host().architecture == architecture else architecture,
        login=login,
        no_https=any(session.registries.reach(reference).http for reference in source.remotes),
        ca_path=request.ca_path,
        cachedir=request.cachedir,
        tmpdir=work,
        directory=source.directory or "/",
        timeout=request.timeout,
    )


def _given_to_engine(source: BuildSource, work: str) -> str:
    """What the engine is given: a definition as it was read once, in a file of ours."""
    if source.text is None:
        return source.named
    path = os.path.join(work, "definition")
    try:
        with open(path, "x", encoding="utf-8", newline="") as stream:
            stream.write(source.text)
    except OSError as error:
        raise storage_error(error, path) from error
    return path


def _built(
    session: Session,
    engine: Engine,
    source: BuildSource,
    given: str,
    options: BuildOptions,
    place: str,
    outcome: BuildOutcome,
) -> str:
    """Where the result is, in its room."""
    for number in range(_ATTEMPTS):
        target = os.path.join(place, str(number))
        with outcome.clock("build"):
            outcome.warnings.extend(engine.build(target, given, options))
        inputs = {**outcome.inputs, **source.origin(session)}
        if inputs == outcome.inputs:
            return target
        outcome.inputs = inputs
    raise RegistryError(
        f"what {source.named} starts from was moved {_ATTEMPTS} times while it was built; build it when that is over, "
        "or start from a digest"
    )
