# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pruning a cache of blobs: what no image needs, and what killed runs left, goes."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass

from ..fs import guard
from ..fs.files import storage_error
from .blobs import ALGORITHMS, BlobCache, names_in, size_of
from .cache_lock import exclusive

_BLOB = re.compile(r"[0-9a-f]+|\.[0-9a-f]+\..+")  # a blob, and what is made for it


@dataclass(frozen=True)
class Pruned:
    """A removal from the cache: a digest or path, and the size in bytes."""

    what: str
    size: int


def prune(cache: BlobCache, needed: Collection[str], check: bool) -> list[Pruned]:
    """Remove all blobs and kept files but those that are needed, and what killed runs left of blobs.

    :param needed: their digests.
    :param check: remove nothing, only tell.
    :returns: what was removed, by its digest or, of what has none, its path.
    :raises StorageError: if another run uses the cache, or a file cannot be removed.
    """
    with nullcontext() if check else exclusive(cache.directory):
        pruned = []
        for algorithm in ALGORITHMS:
            directory = os.path.join(cache.directory, "blobs", algorithm)
            with _held(directory, cache.directory) as place:
                for name in sorted(filter(_BLOB.fullmatch, names_in(place))):
                    path, digest = os.path.join(directory, name), f"{algorithm}:{name}"
                    size = size_of(os.path.join(place, name))
                    if size is None or digest in needed:
                        continue
                    pruned.append(Pruned(path if name.startswith(".") else digest, size))
                    if not check:
                        cache.remove(path)
        return pruned


@contextmanager
def _held(directory: str, cache: str) -> Iterator[str]:
    """Hold a directory of a cache for a block, so that nobody's link leads root elsewhere. It need not be there."""
    with ExitStack() as stack:
        try:
            place = stack.enter_context(guard.reached(directory, cache))
        except FileNotFoundError:
            place = directory
        except OSError as error:
            raise storage_error(error, directory) from error
        yield place
