# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lock on a whole cache of blobs: shared by runs that use it, exclusive for one that prunes it.

It works as far as the file system has locks. A run that cannot have it goes on: what is removed meanwhile is fetched
again.
"""

from __future__ import annotations

import fcntl
import os
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ..errors import StorageError
from ..fs import guard

_NAME = ".sregistry.lock"
_TURNS, _PAUSE = 600, 0.1  # how often the shared lock is tried, and seconds between


def share(directory: str, user: object) -> None:
    """Keep others from pruning a cache for as long as an object lives. A run that prunes is quick: wait for it.

    Everybody who may open the file can hold its lock for ever, as a user in their own cache, so the wait has an end.

    :param directory: of the cache.
    """
    descriptor = _opened(directory)
    if descriptor is None:
        return
    weakref.finalize(user, os.close, descriptor)
    with suppress(OSError):  # where there are no locks
        for _time in range(_TURNS):
            with suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
                break
            time.sleep(_PAUSE)


@contextmanager
def exclusive(directory: str) -> Iterator[None]:
    """Keep others from using a cache for a block.

    :raises StorageError: if another run uses it.
    """
    descriptor = _opened(directory) if os.path.isdir(directory) else None
    if descriptor is None:
        yield
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise StorageError(f"another run uses the cache {directory}; prune it when that has ended") from error
    except OSError:
        pass
    try:
        yield
    finally:
        os.close(descriptor)


def _opened(directory: str) -> int | None:
    """Open the file that stands for the use of the whole cache; None where this user can have none."""
    path = os.path.join(directory, _NAME)
    with suppress(OSError, StorageError), guard.reached(directory, mode=0o700) as place:
        return guard.made(os.path.join(place, _NAME), os.O_RDWR, 0o666)
    with suppress(OSError):
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    return None
