# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The request of a build: what is to be built, where, and how."""

from __future__ import annotations

import hashlib
import os
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ..engine.definition import DOCKER
from ..errors import InvalidReference
from ..inventory.storage import place
from ..oci.reference import BUILD, DEFAULT_TAG, LOCALHOST, Reference
from ..sif.formats import SIF
from ..sif.toolchain import Toolchain


@dataclass(frozen=True)
class BuildRequest:
    """The request of a build.

    :ivar path: of the result, absolute.
    :ivar format: ``sif`` or ``sandbox``.
    :ivar source: a URI, or the path of a definition, a SIF or a sandbox; None if there is a ``definition``, a text.
    :ivar directory: relative names in a definition start from it; None for the one of the definition's file.
    :ivar arguments: values of the definition's build arguments.
    :ivar fakeroot: None for the usual: an ordinary user needs it to run a definition.
    :ivar sections: of the definition that are run; all if there are none.
    :ivar name: of the result in the inventory.
    :ivar checksum: read a whole file to find out whether it was modified.
    :ivar cachedir: of the engine; None means that nothing is cached.
    :ivar prepare: sets owner and mode of a finished file before it gets its name.
    :ivar timeout: of the engine, in seconds.
    :ivar backup: whether what is replaced gets another name.
    :ivar store: where the path follows from the name, the directory that it begins at.
    """

    path: str
    format: str
    source: str | None
    definition: str | None
    directory: str | None
    arguments: Mapping[str, str] = field(repr=False)
    fakeroot: bool | None
    sections: tuple[str, ...]
    tests: bool
    name: Reference | None
    force: bool
    checksum: bool
    toolchain: Toolchain
    cachedir: str | None
    ca_path: str | None
    prepare: Callable[[str], None]
    timeout: float
    store: str | None = None
    backup: bool = False

    @property
    def image(self) -> Reference | None:
        """The image of a registry to build from, which is read without an engine."""
        return image_of(self.source) if self.source else None


def path_in_store(store: str, name: Reference | None, source: str | None, format: str) -> str:
    """Return the path of a build that has none: where a pull of its name would put its file, in the store.

    :param name: of the result; where it is None, an image in a registry as source has a name of its own.
    :raises InvalidReference: if neither has one.
    :raises StorageError: if the store is not an absolute path.
    """
    known = name or (image_of(source) if source else None)
    if known is None:
        raise InvalidReference(
            "a build needs a path, or a name, from which its path in the storage follows; give one of them"
        )
    path = place(store, known)
    return path if format == SIF else os.path.splitext(path)[0]


def image_of(source: str) -> Reference | None:
    """Return the image of a registry that a source names; None if an engine is needed to read the source."""
    return Reference.parse(source) if source.startswith(f"{DOCKER}://") else None


def local_reference(path: str) -> Reference:
    """Return a name for the inventory, made from a path: ``build://localhost/opt/app.sif:latest``."""
    quoted = urllib.parse.quote(os.fsencode(path.lstrip("/")), safe="/")
    if len(quoted) > 1000:  # a name that everybody can still read
        quoted = hashlib.sha256(os.fsencode(path)).hexdigest()
    return Reference(LOCALHOST, quoted, DEFAULT_TAG, scheme=BUILD)
