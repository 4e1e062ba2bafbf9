# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A sandbox of an image in a registry, from its layers: nothing of the image is run, the engine writes its part."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping

from ..errors import InvalidReference
from ..fs.files import make_directory
from ..inventory.document import File
from ..inventory.outcome import PRESENT, RECORDED
from ..late import importing
from ..pull.layer_download import LayerDownloads, threads_for
from ..pull.resolve import is_current, resolve, to_document
from ..registry.image import ResolvedImage
from ..sif.formats import SANDBOX
from ..sif.toolchain import VIA_SANDBOX
from .run import BuildDecision, BuildRun, Existing, is_present


class SandboxBuild(BuildRun):
    """The build of a sandbox from the layers of an image."""

    _image: ResolvedImage
    _layers: LayerDownloads
    _replaces = False

    def _decide(self) -> BuildDecision:
        session, request, reference = self.session, self.request, self.outcome.reference
        self.existing = existing = Existing.at(session, self.outcome, request.path)
        document, file = existing.document, existing.file
        self.inputs_before = _inputs_of(file) if file else {}
        fresh = file if file and is_present(request, file) and self._has_inputs(file) else None
        with self.outcome.clock("resolve"):
            known = document and fresh and fresh.manifest_digest == document.manifest_digest
            if document and known and is_current(session, reference, document):
                return BuildDecision(PRESENT, path_before=request.path)
            image = resolve(session, reference, self.outcome)
        if not isinstance(image, ResolvedImage):
            raise InvalidReference(
                f"{reference} is a finished file and has no layers; pull it, and build the directory from that file"
            )
        self._image = image
        self.inputs = {**self._asked(), "from": f"{reference.url}@{image.manifest_digest}"}
        after = to_document(image, session, document)
        if fresh and fresh.manifest_digest == image.manifest_digest:
            return BuildDecision(RECORDED, after, self.inputs, request.path, recorded=fresh)
        other = existing.owner.file(request.path) if existing.owner else None
        action, path_before = self._foresee(file or other, is_present(request, file))
        self._replaces = path_before is not None
        return BuildDecision(action, after, self.inputs, path_before)

    def _has_inputs(self, file: File) -> bool:
        """Tell whether a file is a sandbox that was made as it would be made now."""
        request = self.request
        return not request.force and file.inputs.get("format") == SANDBOX and request.toolchain.agrees(file.inputs)

    def _asked(self) -> dict[str, str]:
        """Return the inputs that are asked for, without the image."""
        kind, asked = self.request.toolchain.engine_kind, self.request.toolchain.asked
        counted = {name: value for name, value in asked.items() if name in ("command", "reproducible")}
        return {"format": SANDBOX, **counted, **({"engine": kind} if kind else {})}

    def _carry_out(self, decision: BuildDecision) -> BuildDecision:
        with threads_for(self.session) as pool:
            self._layers = LayerDownloads(self.session, self._image, self.outcome)
            if not decision.recorded:
                self._layers.begin(pool)
            return super()._carry_out(decision)

    def _was_done(self, decision: BuildDecision, file: File) -> bool:
        return not decision.recorded and file.manifest_digest == self._image.manifest_digest

    def _make(self) -> tuple[File, Mapping[str, str]]:
        """Write the tree, again where a layer turned out to be damaged.

        :raises SregistryError: if that fails; what was there is then as before.
        """
        with importing:
            from ..sif.builder import ImageBuild  # only a build needs it

        session, outcome, image, toolchain = self.session, self.outcome, self._image, self.request.toolchain
        inputs = toolchain.sandbox_inputs  # without an engine, it ends here
        make_directory(os.path.dirname(self.request.path))
        with self.target.build_directory("", outcome.warnings) as place:
            roots = (os.path.join(place, str(number)) for number in range(1000))

            def write() -> tuple[str, list[str]]:
                root = next(roots)
                os.mkdir(root)
                build = ImageBuild(image, session.cache, toolchain, self._layers, outcome.clock, session.threads)
                return root, build.write_tree(root)

            root, warnings = self._layers.serve(write)
            outcome.warnings.extend(warnings)
            installed = self.target.install(root, self._replaces)
            file = dataclasses.replace(
                File.at(self.request.path, installed.sha256, inputs),
                size=installed.size,
                mtime_ns=installed.mtime_ns,
                manifest_digest=image.manifest_digest,
                engine_version=toolchain.engine.version,
                builder=VIA_SANDBOX,
            )
        return file, self.inputs


def _inputs_of(file: File) -> dict[str, str]:
    """Return the inputs of what is there, with the image that it was built from."""
    return {**file.inputs, **({"from": file.manifest_digest} if file.manifest_digest else {})}
