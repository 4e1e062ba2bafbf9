# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A file on the host that is to be added: what it is, and the path that it gets in the store."""

from __future__ import annotations

import os
from dataclasses import dataclass

from ..errors import InvalidImage
from ..fs import permit
from ..fs.digest import sha256_of
from ..inventory import storage
from ..inventory.paths import is_one_name
from ..oci.platform import Platform
from ..oci.reference import Reference
from ..sif.formats import Format, identify


@dataclass(frozen=True)
class SourceFile:
    """A file to be added.

    :ivar target: the path that it gets; its own path if it stays where it is.
    """

    path: str
    format: Format
    platform: Platform
    sha256: str
    target: str

    @property
    def stays(self) -> bool:
        """True if it is where it is to be."""
        return self.path == self.target


def describe_source(path: str, reference: Reference, store: str | None, platform: Platform | None) -> SourceFile:
    """Return what a file is, and where it goes.

    :param store: the directory of the store that it goes to; None if it stays where it is.
    :param platform: of a file that does not tell its own.
    :raises OSError: if it cannot be read.
    :raises InvalidImage: if it is no image, or one for another platform.
    """
    with permit.reading(path) as held:
        kind, sha256 = identify(held), sha256_of(held)
    target = store_path(store, reference, kind) if store else path
    if is_one_name(path, target):  # to move it onto itself would be to remove it
        path = target
    return SourceFile(path, kind, file_platform(kind, platform, path), sha256, target)


def file_platform(format: Format, wanted: Platform | None, path: str) -> Platform:
    """Return the platform of a file. Those of Singularity 2 do not tell theirs.

    :raises InvalidImage: if the file is of another one than is wanted.
    """
    if format.architecture is None:
        return wanted or Platform.host()
    own = Platform.of("linux", format.architecture)
    if wanted and (wanted.os, wanted.architecture) != (own.os, own.architecture):
        raise InvalidImage(f"{path} is an image for {own}, not for {wanted}; give the platform that it has")
    return wanted or own


def store_path(store: str, reference: Reference, format: Format) -> str:
    """Return the path of an image in the store, with the ending that its format has."""
    return os.path.splitext(storage.place(store, reference))[0] + format.suffix
