# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The progress of a run: what is done so far of what has to be done, to be read while the run goes on."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..oci.partial import Source


FILE_VARIABLE = "SREGISTRY_PROGRESS_FILE"
"""The variable by which the action plugin names the file that it wants to read the progress from."""

_PAUSE = 0.5  # seconds between two looks
_WHOLE = "total"  # the step that all others of an image are in


class Progress:
    """The counts of a run.

    Many threads count while another looks: each count is set as a whole by the one thread that does the work, so that
    nobody waits for a lock. Sizes are in bytes.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.images = 0
        self.done = 0
        self._now, self._begun = now, now()
        self._doing: list[tuple[str, str, float]] = []
        self._sizes: dict[str, int | None] = {}
        self._fetched: dict[str, int] = {}
        self._arrived: dict[str, bool] = {}
        self._to_read: dict[str, int] = {}
        self._read: dict[tuple[str, str], int] = {}

    @contextmanager
    def step(self, image: str, name: str) -> Iterator[None]:
        """Note a step of the work for an image, for a block."""
        doing = (image, name, self._now())
        self._doing.append(doing)
        try:
            yield
        finally:
            self._doing.remove(doing)

    def expect(self, key: str, size: int | None) -> None:
        """Something that will be fetched.

        :param key: a digest, or a name of what has none yet.
        :param size: None if it is not known.
        """
        self._sizes[key] = size

    @contextmanager
    def fetching(self, key: str, size: int | None, source: Source) -> Iterator[Source]:
        """Count what comes from a source. All is there when the block ends well; else no more of it is expected."""

        @contextmanager
        def counted(position: int) -> Iterator[tuple[int, Iterator[bytes]]]:
            self.expect(key, size)
            with source(position) as (begin, chunks):
                yield begin, self._counted(key, begin, chunks)

        try:
            yield counted
        except BaseException:
            self._sizes.pop(key, None)
            raise
        self._arrived[key] = True

    def expect_reading(self, image: str, size: int) -> None:
        """Note the layers that an image will be built from, as they are compressed."""
        self._to_read[image] = size

    def note_read(self, image: str, digest: str, position: int) -> None:
        """Note how many bytes of a layer have been read for an image."""
        self._read[image, digest] = position

    def state(self) -> dict[str, Any]:
        """All of it, as plain data: ``at`` is in seconds from the beginning, ``since`` the seconds that the step has
        taken; ``to_fetch`` is None where a size is not known.
        """
        now, doing = self._now(), self._doing.copy()
        image, step, begun = doing[-1] if doing else ("", "", now)
        sizes, fetched, arrived = self._sizes.copy(), self._fetched.copy(), self._arrived.copy()
        known = [size for size in sizes.values() if size is not None]
        return {
            "at": round(now - self._begun, 3),
            "images": self.images,
            "done": self.done,
            "image": image,
            "step": "" if step == _WHOLE else step,
            "since": round(now - begun, 3),
            "fetched": sum(
                (size or fetched.get(key, 0)) if key in arrived else fetched.get(key, 0) for key, size in sizes.items()
            ),
            "to_fetch": sum(known) if len(known) == len(sizes) else None,
            "blobs": len(sizes),
            "arrived": sum(key in arrived for key in sizes),
            "read": sum(self._read.copy().values()),
            "to_read": sum(self._to_read.copy().values()),
        }

    def _counted(self, key: str, position: int, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            position += len(chunk)
            self._fetched[key] = position
            yield chunk


@contextmanager
def told(progress: Progress, path: str | None) -> Iterator[None]:
    """Keep a small JSON file with the state of a run, for a block, and remove it in the end.

    Whoever cannot write it does without: progress is no reason to fail.

    :param path: None for no file.
    """
    if not path:
        yield
        return
    ended = threading.Event()
    thread = threading.Thread(target=_tell, args=(progress, path, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        with suppress(OSError):
            os.unlink(path)


def _tell(progress: Progress, path: str, ended: threading.Event) -> None:
    with suppress(OSError):
        while not ended.wait(_PAUSE):
            _write(path, json.dumps(progress.state()).encode())


def _write(path: str, content: bytes) -> None:
    """Write a file that appears whole. It need not survive a crash, so nothing is synced."""
    temporary = f"{path}.tmp"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            os.write(descriptor, content)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise
