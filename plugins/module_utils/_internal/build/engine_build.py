# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A build by the engine: its inputs and options, and the same build again where a base was moved meanwhile."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass

from ..engine.cli import BuildOptions, Engine
from ..errors import PackerError, RegistryError, StorageError
from ..fs import guard
from ..fs.files import make_directory, storage_error
from ..fs.tempdir import temporary_directory
from ..inventory.document import Document, File
from ..inventory.outcome import PRESENT, RECORDED
from ..oci.platform import Platform
from ..sif.formats import SANDBOX, SIF
from ..transport.keychain import Login
from .request import BuildRequest
from .run import BUILT, BuildDecision, BuildRun, Existing, is_present
from .source import BuildSource, agree, inputs_of, login_for, read_build_source

_ATTEMPTS = 3  # builds of one run, where a base is moved while they go on
_PACKER_OPTION = ("build", "--mksquashfs-args")


class EngineBuild(BuildRun):
    """The build of a definition, or of an image that only the engine reads."""

    _source: BuildSource
    _login: Login | None
    _replaces = False

    def _decide(self) -> BuildDecision:
        session, request = self.session, self.request
        with self.outcome.clock("resolve"):
            source = self._read_source()
            if source is None:
                return BuildDecision(BUILT)
            self._source = source
            self._login = login_for(session, source)
            self.inputs = inputs_of(session, request, source)
            self.existing = existing = Existing.at(session, self.outcome, request.path)
            file = existing.file or (existing.owner.file(request.path) if existing.owner else None)
            self.inputs_before = dict(file.inputs) if file else {}
            after = existing.document or Document.local(
                self.outcome.reference, self.outcome.platform, url=request.source or ""
            )
            if file and not request.force and self._serves(file):
                if existing.file:
                    return BuildDecision(PRESENT, path_before=request.path)
                return BuildDecision(RECORDED, after, path_before=request.path, recorded=file)
            action, path_before = self._foresee(file, is_present(request, file))
            self._replaces = path_before is not None
            text = None if source.text is None else source.definition.text
            text_before = self.target.definition() if path_before else None
            return BuildDecision(action, after, self.inputs, path_before, text, text_before)

    def _read_source(self) -> BuildSource | None:
        """Return the source; None if some of it is not there in check mode.

        :raises StorageError: if some of it is not there.
        """
        source = read_build_source(self.request)
        if source:
            self.outcome.warnings.extend(source.check())
        missing = ", ".join(source.missing()) if source else str(self.request.source)
        if source and not missing:
            return source
        if not self.session.check:
            raise StorageError(
                f"there is no {missing} on this host; put it there in a task before, or correct the name"
            )
        # A task before may be what brings it.
        self.outcome.warnings.append(f"there is no {missing} on this host yet")
        return None

    def _serves(self, file: File) -> bool:
        """Tell whether a file is there, and is what a build would give."""
        return agree(file.inputs, self.inputs) and is_present(self.request, file)

    def _was_done(self, decision: BuildDecision, file: File) -> bool:
        return self._serves(file)

    def _make(self) -> tuple[File, Mapping[str, str]]:
        """Build until no base was moved meanwhile.

        :raises EngineError, PackerError: if the engine cannot, or fails.
        :raises RegistryError: if bases are moved again and again.
        :raises StorageError, NoSpace: if it cannot be written.
        """
        request, warnings, tmpdir = self.request, self.outcome.warnings, self.request.toolchain.tmpdir
        engine = request.toolchain.engine
        make_directory(os.path.dirname(request.path))
        make_directory(tmpdir)
        with temporary_directory(tmpdir) as work, self.target.build_directory(work, warnings) as place:
            packing = _packing(engine, request)
            options = self._options(packing.arguments, work)
            # its namespace keeps the engine from what is held here
            if options.fakeroot and guard.held_descriptor(place) is not None:
                raise StorageError(
                    f"{os.path.dirname(request.path)} is not safe for a sandbox that root builds with fakeroot: a "
                    "group may write there; give the directory the sticky bit (mode 3775), or give another path"
                )
            built, inputs = self._build(engine, _argument(self._source, work), options, place)
            with self.outcome.clock("assemble"):
                installed = self.target.install(built, self._replaces)
                file = dataclasses.replace(
                    File.at(request.path, installed.sha256, {**inputs, **packing.inputs}),
                    size=installed.size,
                    mtime_ns=installed.mtime_ns,
                    engine_version=engine.version,
                    builder="engine",
                )
        return file, inputs

    def _build(self, engine: Engine, argument: str, options: BuildOptions, place: str) -> tuple[str, Mapping[str, str]]:
        """Return the path of the result, and the inputs that it was built from.

        :param place: the directory to build in.
        """
        inputs = self.inputs
        for number in range(_ATTEMPTS):
            target = os.path.join(place, str(number))
            with self.outcome.clock("build"):
                self.outcome.warnings.extend(engine.build(target, argument, options))
            now = {**inputs, **self._source.origin(self.session)}
            if now == inputs:
                return target, inputs
            inputs = now
        raise RegistryError(
            f"the images that {self._source.named} starts from were moved {_ATTEMPTS} times while it was built; build "
            "it when that is over, or start from a digest"
        )

    def _options(self, packer_arguments: str | None, work: str) -> BuildOptions:
        request, source, architecture = self.request, self._source, self.session.platform.architecture
        return BuildOptions(
            sandbox=request.format == SANDBOX,
            fakeroot=source.needs_fakeroot(request),
            no_test=not request.tests,
            sections=request.sections,
            arguments=request.arguments,
            packer_arguments=packer_arguments,
            architecture=None if Platform.host().architecture == architecture else architecture,
            login=self._login,
            no_https=any(self.session.registries.reach(reference).http for reference in source.remotes),
            ca_path=request.ca_path,
            cachedir=request.cachedir,
            tmpdir=work,
            directory=source.directory or "/",
            timeout=request.timeout,
        )


@dataclass(frozen=True)
class _Packing:
    """The arguments of the packer, and the inputs that they are; none for the engine's own choice."""

    arguments: str | None
    inputs: dict[str, str]


def _packing(engine: Engine, request: BuildRequest) -> _Packing:
    """Return how a SIF is packed: as the engine likes, where our choice is not asked for and the engine cannot take it.

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


def _argument(source: BuildSource, work: str) -> str:
    """Return what the engine builds from: the definition as it was read once, in a file of ours, or the source."""
    if source.text is None:
        return source.named
    path = os.path.join(work, "definition")
    try:
        with open(path, "x", encoding="utf-8", newline="") as stream:
            stream.write(source.text)
    except OSError as error:
        raise storage_error(error, path) from error
    return path
