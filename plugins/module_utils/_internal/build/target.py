# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What was built and its place: what may be replaced there, room to build in, and how the result gets its name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import InvalidSif, StorageError
from ..fs import guard, permit
from ..fs.digest import hash_of
from ..fs.files import read_regular, replacing, swap_in
from ..fs.tempdir import beside
from ..inventory.paths import back_up, backup_name
from ..pull.outcome import PullOutcome
from ..sif import container
from ..sif.formats import SANDBOX, SIF
from . import inputs
from .request import BuildRequest
from .source import MAX_DEFINITION


def definition_in(path: str) -> str | None:
    """The definition that an image says it was built from; None if it tells none."""
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
def build_directory(request: BuildRequest, work: str, warnings: list[str]) -> Iterator[str]:
    """A directory to build in, for a block: for a directory tree one from where it can be renamed to its path.

    :param work: where a file is built.
    :param warnings: are added to, if something stays behind.
    :raises StorageError: if it cannot be made.
    """
    if request.format == SIF:
        yield work
        return
    with beside(request.path) as place:
        yield place
    if os.path.lexists(place):
        warnings.append(f"not all of {place} could be removed; remove it as root")


def install(request: BuildRequest, built: str, outcome: PullOutcome) -> tuple[int, int, str]:
    """Put what was built into its place; returns its size in bytes, its mtime in ns and its sha256, empty for a
    directory.

    :param built: where it is, in its ``build_directory``.
    :param outcome: whether something was there before, and may be replaced; it is told where a backup of that lies.
    :raises StorageError, NoSpace: if that fails; what was there is then as before.
    """
    path = request.path
    if outcome.path_before is None and os.path.lexists(path):
        raise StorageError(f"{path} appeared while it was built; look what it is, and run this again")
    if request.format == SANDBOX:
        size, mtime_ns = inputs.size_of_tree(built), os.stat(built).st_mtime_ns
        _swap(request, built, f"{built}.before", outcome)
        return size, mtime_ns, ""
    if not os.path.isdir(path):
        return _copied(request, built, path, outcome)
    with beside(path) as place:
        new = os.path.join(place, "new")
        told = _copied(request, built, new, None)
        _swap(request, new, os.path.join(place, "before"), outcome)
        return told


def _swap(request: BuildRequest, new: str, aside: str, outcome: PullOutcome) -> None:
    """Put something at the path where a directory is, or is to be. What was there goes aside, or stays as a backup."""
    if request.backup and os.path.lexists(request.path):
        aside = outcome.backup_file = backup_name(request.path)
    swap_in(new, request.path, aside)


def _copied(request: BuildRequest, source: str, path: str, outcome: PullOutcome | None) -> tuple[int, int, str]:
    """Copy a finished file to where it appears whole; returns its size in bytes, its mtime in ns and its sha256."""

    def finish(temporary: str) -> None:
        request.prepare(temporary)
        if request.backup and outcome:
            outcome.backup_file = back_up(path, outcome.backup_file)

    with open(source, "rb") as finished, replacing(path, mode=0o777, prepare=finish) as stream:
        sha256 = hash_of(finished, copy=stream).hexdigest()
        stream.flush()
        os.fsync(stream.fileno())
        status = os.fstat(stream.fileno())
        return status.st_size, status.st_mtime_ns, sha256
