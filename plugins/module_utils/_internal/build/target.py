# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The path of a build: what is there, a directory to build in, and the way in which a result gets its name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ..errors import InvalidSif, StorageError
from ..fs import guard, permit
from ..fs.digest import hash_of
from ..fs.files import read_regular, replacing, swap_in
from ..fs.tempdir import beside
from ..inventory.paths import back_up, backup_name
from ..sif import container
from ..sif.formats import SANDBOX, SIF
from .inputs import size_of_tree
from .request import BuildRequest
from .source import MAX_DEFINITION


@dataclass(frozen=True)
class Installed:
    """A result in its place: its size in bytes, its mtime in ns, and its sha256, which is empty for a directory."""

    size: int
    mtime_ns: int
    sha256: str


class Target:
    """The path of a build.

    :ivar backup_file: the path that what was replaced has now; None if nothing was kept.
    """

    def __init__(self, request: BuildRequest) -> None:
        self._request = request
        self.backup_file: str | None = None

    def definition(self) -> str | None:
        """Return the definition that the image there says it was built from; None if it says none."""
        path = self._request.path
        try:
            if os.path.isdir(path):
                with guard.reached(os.path.join(path, ".singularity.d"), path) as place:
                    content: bytes | None = read_regular(os.path.join(place, "Singularity"), MAX_DEFINITION)
            else:
                with permit.reading(path) as held:
                    content = container.read_object(held, "", MAX_DEFINITION, container.DEFINITION)
        except (OSError, InvalidSif, StorageError):
            return None
        return None if content is None else content.decode("utf-8", "replace")

    @contextmanager
    def build_directory(self, work: str, warnings: list[str]) -> Iterator[str]:
        """Make a directory to build in, for a block: for a directory tree one from where it can be renamed to its path.

        :param work: a directory to build a file in.
        :param warnings: get one more if something stays behind.
        :raises StorageError: if it cannot be made.
        """
        if self._request.format == SIF:
            yield work
            return
        with beside(self._request.path) as place:
            yield place
        if os.path.lexists(place):
            warnings.append(f"not all of {place} could be removed; remove it as root")

    def install(self, built: str, replaces: bool) -> Installed:
        """Put what was built into its place.

        :param built: its path in the ``build_directory``.
        :param replaces: something was there when that was decided, and may be replaced.
        :raises StorageError, NoSpace: if that fails; what was there is then as before.
        """
        path = self._request.path
        if not replaces and os.path.lexists(path):
            raise StorageError(f"{path} appeared while it was built; look what it is, and run this again")
        if self._request.format == SANDBOX:
            size, mtime_ns = size_of_tree(built), os.stat(built).st_mtime_ns
            self._swap(built, f"{built}.before")
            return Installed(size, mtime_ns, "")
        if not os.path.isdir(path):
            return self._copy(built, path, backup=self._request.backup)
        with beside(path) as place:
            new = os.path.join(place, "new")
            installed = self._copy(built, new, backup=False)
            self._swap(new, os.path.join(place, "before"))
            return installed

    def _swap(self, new: str, aside: str) -> None:
        """Put something at the path of a directory, which goes aside or stays as a backup."""
        path = self._request.path
        if self._request.backup and os.path.lexists(path):
            aside = self.backup_file = backup_name(path)
        swap_in(new, path, aside)

    def _copy(self, source: str, path: str, backup: bool) -> Installed:
        """Copy a finished file to a path, where it appears whole."""

        def finish(temporary: str) -> None:
            self._request.prepare(temporary)
            if backup:
                self.backup_file = back_up(path, self.backup_file)

        with open(source, "rb") as finished, replacing(path, mode=0o777, prepare=finish) as stream:
            sha256 = hash_of(finished, copy=stream).hexdigest()
            stream.flush()
            os.fsync(stream.fileno())
            status = os.fstat(stream.fileno())
            return Installed(status.st_size, status.st_mtime_ns, sha256)
