# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Progress of a run: counted while it goes on, told in a file, and never in its way."""

from __future__ import annotations

import json
import os
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.blobs import BlobCache
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.descriptor import Descriptor
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.partial import Source
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.pull import progress as module
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.pull.progress import Progress, told


class Clock:
    """A clock that stands still unless it is moved."""

    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.time


def sending(*chunks: bytes, begin: int | None = None) -> Source:
    """Return a source of these chunks, from where it is asked to begin or from elsewhere."""

    @contextmanager
    def source(position: int) -> Iterator[tuple[int, Iterator[bytes]]]:
        yield position if begin is None else begin, iter(chunks)

    return source


def drawn(source: Source, position: int = 0) -> bytes:
    """Return all that comes from a source."""
    with source(position) as (_begin, chunks):
        return b"".join(chunks)


def part(progress: Progress, *names: str) -> tuple[Any, ...]:
    """Return some of the state."""
    state = progress.state()
    return tuple(state[name] for name in names)


def test_nothing_is_done_at_first() -> None:
    state = Progress(Clock()).state()
    assert state["step"] == state["image"] == ""
    assert not any(state.values())


def test_the_innermost_step_counts_and_how_long_it_takes() -> None:
    clock = Clock()
    progress = Progress(clock)
    with progress.step("org/app:1", "total"):
        assert part(progress, "image", "step") == ("org/app:1", "")
        with progress.step("org/app:1", "pack"):
            clock.time += 2
            with progress.step("org/app:1", "fetch"):
                clock.time += 3
                assert part(progress, "step", "since", "at") == ("fetch", 3, 5)
            assert part(progress, "step", "since") == ("pack", 5)
    assert part(progress, "image", "step") == ("", "")


def test_a_step_that_fails_is_over() -> None:
    progress = Progress()
    with suppress(ValueError), progress.step("org/app:1", "pack"):
        raise ValueError
    assert part(progress, "step") == ("",)


def test_what_arrives_is_counted_while_it_arrives() -> None:
    progress = Progress()
    progress.expect("a", 6)
    progress.expect("b", 4)
    with progress.fetching("a", 6, sending(b"123", b"456")) as source, source(0) as (_begin, chunks):
        next(chunks)
        assert part(progress, "fetched", "to_fetch", "blobs", "arrived") == (3, 10, 2, 0)
        next(chunks)
    assert part(progress, "fetched", "to_fetch", "blobs", "arrived") == (6, 10, 2, 1)


@pytest.mark.parametrize(("asked", "begin", "fetched"), [(4, None, 6), (4, 0, 2)], ids=["honoured", "from the start"])
def test_what_was_there_before_a_break_counts_once(asked: int, begin: int | None, fetched: int) -> None:
    progress = Progress()
    with progress.fetching("a", 100, sending(b"56", begin=begin)) as source:
        drawn(source, asked)
        assert part(progress, "fetched") == (fetched,)


def test_what_another_process_brought_has_arrived() -> None:
    progress = Progress()
    progress.expect("a", 6)
    with progress.fetching("a", 6, sending()):
        pass
    assert part(progress, "fetched", "arrived") == (6, 1)


def test_what_was_there_all_the_time_is_nothing_to_fetch() -> None:
    progress = Progress()
    with progress.fetching("a", 6, sending()):
        pass
    assert part(progress, "fetched", "to_fetch", "blobs", "arrived") == (0, 0, 0, 0)


def test_what_does_not_come_is_no_longer_expected() -> None:
    progress = Progress()
    progress.expect("a", 6)
    with suppress(OSError), progress.fetching("a", 6, sending(b"123")) as source:
        drawn(source)
        raise OSError
    assert part(progress, "fetched", "to_fetch", "blobs") == (0, 0, 0)


def test_one_size_that_nobody_knows_leaves_no_sum() -> None:
    progress = Progress()
    progress.expect("a", 6)
    progress.expect("b", None)
    with progress.fetching("b", None, sending(b"123")) as source:
        drawn(source)
    assert part(progress, "fetched", "to_fetch", "arrived") == (3, None, 1)


def test_a_layer_counts_for_each_image_that_is_built_from_it() -> None:
    progress = Progress()
    for image in ("org/app:1", "org/app:2"):
        progress.expect_reading(image, 10)
        progress.note_read(image, "sha256:a", 3)
        progress.note_read(image, "sha256:a", 7)
    assert part(progress, "read", "to_read") == (14, 20)


def test_a_cache_is_counted_through_its_source(tmp_path: Path) -> None:
    progress, digest = Progress(), "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    with progress.fetching(digest, 5, sending(b"he", b"llo")) as source:
        BlobCache(str(tmp_path)).obtain(Descriptor(digest, 5), source, "the blob")
    assert part(progress, "fetched", "to_fetch", "arrived") == (5, 5, 1)


def test_threads_may_count_while_another_looks() -> None:
    progress, ended, seen = Progress(), threading.Event(), []

    def work(number: int) -> None:
        for each in range(2000):
            with (
                progress.step(f"image {number}", "fetch"),
                progress.fetching(f"{number}.{each}", 1, sending(b"1")) as it,
            ):
                drawn(it)

    def look() -> None:
        while not ended.is_set():
            seen.append(progress.state()["fetched"])

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    looking = threading.Thread(target=look)
    for thread in (looking, *workers):
        thread.start()
    for thread in workers:
        thread.join()
    ended.set()
    looking.join()
    assert part(progress, "fetched", "arrived", "step") == (8000, 8000, "")
    assert seen == sorted(seen)


# The file


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the file be written each 10 ms."""
    monkeypatch.setattr(module, "_PAUSE", 0.01)


def waited_for(path: Path) -> dict[str, Any]:
    """Return the content of the file, when it is there."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if path.exists():
            return dict(json.loads(path.read_text(encoding="ascii")))
        time.sleep(0.01)
    raise AssertionError("no file")


def test_the_file_is_whole_private_and_gone_in_the_end(tmp_path: Path, often: None) -> None:
    progress, path = Progress(), tmp_path / "progress"
    progress.images = 1
    with told(progress, str(path)):
        assert waited_for(path)["images"] == 1
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        progress.images = 2
        end = time.monotonic() + 60
        while waited_for(path)["images"] == 1 and time.monotonic() < end:
            pass
        assert waited_for(path)["images"] == 2
    assert os.listdir(tmp_path) == []


def test_the_file_goes_when_the_run_fails(tmp_path: Path, often: None) -> None:
    path = tmp_path / "progress"
    with suppress(SystemExit), told(Progress(), str(path)):
        waited_for(path)
        raise SystemExit(1)
    assert os.listdir(tmp_path) == []


def test_a_short_run_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_write", lambda _path, _content: pytest.fail("it was written"))
    monkeypatch.setattr(module, "_PAUSE", 120.0)
    begin = time.monotonic()
    with told(Progress(), str(tmp_path / "progress")):
        pass
    assert time.monotonic() - begin < 60, "and waits for nobody"


def test_nobody_who_asks_costs_no_thread() -> None:
    before = set(threading.enumerate())
    with told(Progress(), None):
        assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("trouble", ["no directory", "a directory in its place", "a link in its place"])
def test_what_cannot_be_told_is_left_untold(trouble: str, tmp_path: Path, often: None) -> None:
    path = tmp_path / ("none/progress" if trouble == "no directory" else "progress")
    other = tmp_path / "other"
    other.write_text("mine")
    if trouble == "a directory in its place":
        path.mkdir()
    if trouble == "a link in its place":
        (tmp_path / "progress.tmp").symlink_to(other)
    before = set(threading.enumerate())
    with told(Progress(), str(path)):
        end = time.monotonic() + 60
        while set(threading.enumerate()) - before and time.monotonic() < end:
            time.sleep(0.01)
        assert set(threading.enumerate()) <= before, "it gave up"
    assert other.read_text() == "mine"
