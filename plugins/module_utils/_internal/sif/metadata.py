# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The part of an image that the engine adds: ``/.singularity.d``, links, mount points, objects beside the partition.

The engine itself writes it, from an OCI layout that has the real run config and one layer, which is empty, or has the
metadata that the image itself brings. So it is what this very version would write. What names the source is corrected,
and the environment is written here (``environment``).
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import time
from dataclasses import dataclass
from typing import Any

from ..engine.cli import Engine
from ..layers.index import index
from ..layers.tar import DIRECTORY, FILE, SYMLINK
from ..layers.tar_writer import TarWriter
from ..layers.union import Layer, Union
from ..oci.config import Config
from ..oci.platform import Platform
from . import container
from .environment import environment_script
from .own_metadata import NOTHING, OwnMetadata, without_owner
from .toolchain import CMD

_PRIVATE = ".singularity.d"
_LABELS = f"{_PRIVATE}/labels.json"
_DEFINITION = f"{_PRIVATE}/Singularity"
_HISTORY = f"{_PRIVATE}/bootstrap_history"
_ENVIRONMENT = f"{_PRIVATE}/env/10-docker2singularity.sh"
_LABEL_PREFIX = "org.label-schema.usage.singularity.deffile"
_BUILD_DATE = "org.label-schema.build-date"
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_FIRST_HALF = ("January", "February", "March", "April", "May", "June")
_MONTHS = (*_FIRST_HALF, "July", "August", "September", "October", "November", "December")


@dataclass(frozen=True)
class EngineMetadata:
    """A directory as the engine wrote it, the objects of a SIF beside its partition, the time of all of it in seconds
    since the epoch, and what of the image's own metadata the engine had when it wrote that.
    """

    directory: str
    objects: tuple[container.DataObject, ...]
    moment: int
    own: OwnMetadata = NOTHING

    @property
    def files(self) -> list[bytes]:
        """The paths of the regular files: where an image has files too, these are put in their place."""
        found: list[bytes] = []
        for parent, _directories, names in os.walk(self.directory):
            paths = (os.path.join(parent, name) for name in names)
            found.extend(
                os.fsencode(os.path.relpath(path, self.directory)) for path in paths if not os.path.islink(path)
            )
        return found

    def cover(self, union: Union) -> Layer:
        """Make the layer to put on top of an image, by the engine's own rules: what an image has already stays its own,
        but for ``/.singularity.d``, dangling links, and the two files that the engine empties. What it has below
        ``/.singularity.d`` is overwritten in place, and the definition moved away; what the engine left alone stays.

        Source: Apptainer 1.4.5, ``internal/pkg/build/sources/base_environment.go``.
        """
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as stream:
            for parent, directories, files in os.walk(self.directory):
                directories.sort()
                for name in sorted(files + [d for d in directories if os.path.islink(os.path.join(parent, d))]):
                    self._add(stream, os.path.join(parent, name), union)
                directories[:] = [d for d in directories if not os.path.islink(os.path.join(parent, d))]
                for name in directories:
                    self._add(stream, os.path.join(parent, name), union)
        content = archive.getvalue()
        what = "the engine's own files"
        return Layer(what, index(io.BytesIO(content), what), lambda: io.BytesIO(content))

    def _add(self, stream: tarfile.TarFile, path: str, union: Union) -> None:
        name = os.path.relpath(path, self.directory)
        member = stream.gettarinfo(path, arcname=name)
        if self._is_untouched(path, member):
            return
        member.uid = member.gid = 0
        member.mtime = self.moment
        member.mode &= 0o1777  # a directory may have inherited the setgid bit of the temporary one
        member.uname = member.gname = ""
        if (name + "/").startswith(_PRIVATE + "/"):
            self._inherit(path, member)
        else:
            present = union.find(os.fsencode(name))
            if present is not None:
                kind = present.entry.kind
                if (
                    member.isdir()
                    or kind == DIRECTORY
                    or (member.isreg() and kind != FILE)
                    or (member.issym() and kind != SYMLINK)
                ):
                    return
                if member.isreg():  # emptied in place: it keeps its owner
                    member.uid, member.gid = present.entry.uid, present.entry.gid
        if member.isreg():
            with open(path, "rb") as content:
                stream.addfile(member, content)
        else:
            stream.addfile(member)

    def _is_untouched(self, path: str, member: tarfile.TarInfo) -> bool:
        """Tell whether this is of the image, as the engine got it."""
        entry = self.own.entries.get(os.fsencode(member.name))
        if entry is None:
            return False
        given = without_owner(entry)
        if member.isdir():
            return given.kind == DIRECTORY and int(member.mtime) == given.mtime
        return (
            given.kind == FILE
            and member.mode & 0o7777 == given.mode
            and _content(path) == self.own.contents[given.path]
        )

    def _inherit(self, path: str, member: tarfile.TarInfo) -> None:
        """Keep what a file or directory of the image keeps when the engine writes into it, or moves it."""
        name = member.name
        source = self.own.entries.get(os.fsencode(name)) if name != _DEFINITION else None
        former = self.own.contents.get(_DEFINITION.encode())
        if name.startswith(_HISTORY + "/") and member.isreg() and former is not None and _content(path) == former:
            source = self.own.entries[_DEFINITION.encode()]
            member.mtime = source.mtime
        if source is None:
            return
        member.uid, member.gid = source.uid, source.gid
        if member.mode & 0o777 == without_owner(source).mode:
            member.mode = source.mode


def _content(path: str) -> bytes | None:
    if os.path.islink(path) or not os.path.isfile(path):
        return None
    with open(path, "rb") as stream:
        return stream.read()


@dataclass(frozen=True)
class Template:
    """The input from which the engine writes its part of an image.

    :ivar command: which of entry point and command becomes the run script, as ``run_config`` takes it.
    :ivar source: what ``docker://`` is followed by in the name that the image was asked for.
    :ivar moment: the time of what is written, in seconds since the epoch.
    """

    engine: Engine
    command: str
    config: Config
    source: str
    moment: int


def make(template: Template, directory: str, own: OwnMetadata = NOTHING) -> EngineMetadata:
    """Let the engine write its part of an image into a new directory.

    :param directory: an existing, empty one.
    :param own: the metadata that the image itself brings.
    :raises EngineError: if the engine fails.
    """
    layout = os.path.join(directory, "layout")
    tree = os.path.join(directory, "tree")
    run = run_config(template.config, template.command)
    _write_layout(layout, run, _layer(own))
    template.engine.build_sandbox(f"oci:{layout}", tree, directory)
    definition = f"bootstrap: docker\nfrom: {template.source}\n\n"
    _write(tree, _DEFINITION, definition)
    _write(tree, _ENVIRONMENT, environment_script(run.get("Env") or []))
    os.chmod(os.path.join(tree, _ENVIRONMENT), 0o755)
    _correct_labels(tree, template.config.platform, template.source, template.moment)
    attributes = template.engine.inspect(tree, directory)
    metadata = {"data": {"attributes": attributes}, "type": "container"}
    return EngineMetadata(
        tree,
        (
            container.DataObject(container.DEFINITION, "", definition.encode()),
            container.DataObject(container.JSON, "inspect-metadata.json", _json(metadata)),
            container.DataObject(container.JSON, "oci-config.json", _json(run)),
        ),
        template.moment,
        own,
    )


def _layer(own: OwnMetadata) -> bytes:
    """Return the tar archive of an image's own metadata, as any user can unpack it."""
    target = io.BytesIO()
    writer = TarWriter(target)
    for path, entry in own.entries.items():
        content = own.contents.get(path)
        writer.add(without_owner(entry), None if content is None else [memoryview(content)])
    writer.finish()
    return target.getvalue()


def run_config(config: Config, command: str) -> dict[str, Any]:
    """Return an image's run configuration (OCI image specification, config.md, "config") for one way to start it.

    :param command: ``cmd`` leaves the entry point out where there is a command to run instead, as
        ``SREGISTRY_DOCKER_CMD`` asks for.
    """
    run = {key: value for key, value in config.document["config"].items() if value is not None}
    if command == CMD and run.get("Cmd"):
        run.pop("Entrypoint", None)
    return run


def _correct_labels(tree: str, platform: Platform, source: str, moment: int) -> None:
    with open(os.path.join(tree, _LABELS), encoding="utf-8") as stream:
        labels: dict[str, Any] = json.load(stream)
    labels[f"{_LABEL_PREFIX}.bootstrap"] = "docker"
    labels[f"{_LABEL_PREFIX}.from"] = source
    if "org.label-schema.build-arch" in labels:
        labels["org.label-schema.build-arch"] = platform.architecture
    if _BUILD_DATE in labels:
        labels[_BUILD_DATE] = _build_date(moment)
    _write(tree, _LABELS, json.dumps(labels, indent="\t", sort_keys=True, ensure_ascii=False))


def _build_date(moment: int) -> str:
    """Return a time as the engine writes it, in English whatever the locale is."""
    date = time.gmtime(moment)
    day = f"{_DAYS[date.tm_wday]}_{date.tm_mday}_{_MONTHS[date.tm_mon - 1]}_{date.tm_year}"
    return f"{day}_{date.tm_hour}:{date.tm_min}:{date.tm_sec}_UTC"


def _write(tree: str, name: str, text: str) -> None:
    # JSON can spell lone surrogates, which no text file can hold; the engine's decoder makes U+FFFD of them too
    sound = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    with open(os.path.join(tree, name), "w", encoding="utf-8", newline="") as stream:
        stream.write(sound)


def _write_layout(directory: str, run: dict[str, Any], content: bytes) -> None:
    """Return an OCI image layout (image-layout.md) of one image: the run config over one layer.

    The image claims the host's platform whatever it was built for: the engine refuses another, and reads only the
    config.
    """
    os.makedirs(os.path.join(directory, "blobs", "sha256"))

    def put(content: bytes, media_type: str) -> dict[str, Any]:
        encoded = hashlib.sha256(content).hexdigest()
        with open(os.path.join(directory, "blobs", "sha256", encoded), "wb") as stream:
            stream.write(content)
        return {
            "mediaType": f"application/vnd.oci.image.{media_type}",
            "digest": f"sha256:{encoded}",
            "size": len(content),
        }

    layer = put(content, "layer.v1.tar")
    host = Platform.host()
    config = {
        "os": host.os,
        "architecture": host.architecture,
        "config": run,
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
    }
    if host.variant:
        config["variant"] = host.variant
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": put(_json(config), "config.v1+json"),
        "layers": [layer],
    }
    documents = {
        "index.json": {"schemaVersion": 2, "manifests": [put(_json(manifest), "manifest.v1+json")]},
        "oci-layout": {"imageLayoutVersion": "1.0.0"},
    }
    for name, document in documents.items():
        with open(os.path.join(directory, name), "wb") as stream:
            stream.write(_json(document))


def _json(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode("ascii")
