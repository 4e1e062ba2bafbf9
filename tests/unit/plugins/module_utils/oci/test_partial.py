# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A blob has one writer also where locks keep nobody out: it may be fetched twice, no run fails, none is damaged."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import StorageError
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.fs import flock, stale
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci import partial
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.blobs import BlobCache, Obtained
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.descriptor import Descriptor
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.partial import Source
from ansible_collections.hpc.sregistry.tests.unit.plugins.module_utils import file_systems
from ansible_collections.hpc.sregistry.tests.unit.plugins.module_utils.file_systems import (
    GRANTS_ALL,
    KINDS,
    LOCKS_WORK,
    REFUSES,
)

STEPS, STEP = 60, 4096

# Blobs of a seed each, which come in small steps; each process tells how many bytes it received.
_RUN = f"""
import random, time
from contextlib import contextmanager
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.blobs import BlobCache
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import Unreachable
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.descriptor import Descriptor

directory, *wanted = sys.argv[1:]
chance = random.Random()

def source_of(seed):
    content = random.Random(seed).randbytes({STEPS * STEP})

    @contextmanager
    def source(offset):
        def chunks():
            for begin in range(offset, len(content), {STEP}):
                time.sleep(0.002)
                yield content[begin : begin + {STEP}]
                if chance.random() < 0.02:
                    raise Unreachable("the connection broke")
        yield offset, chunks()

    return source

cache = BlobCache(directory, breaks=5, shared=True)
received = 0
for one in wanted:
    seed, digest = one.split("=")
    if digest:
        received += cache.obtain(Descriptor(digest, {STEPS * STEP}), source_of(int(seed)), "the blob").received
    else:
        received += cache.discover(seed, {STEPS * STEP}, source_of(int(seed)), "the file")[1].received
print(received)
"""


def content_of(seed: int) -> bytes:
    return random.Random(seed).randbytes(STEPS * STEP)


def digest_of(seed: int) -> str:
    return f"sha256:{hashlib.sha256(content_of(seed)).hexdigest()}"


def hidden(cache: BlobCache) -> list[str]:
    """Return the names in a cache beside its blobs, except the lock of the whole."""
    names = [name for _parent, _directories, names in os.walk(cache.directory) for name in names]
    return sorted(name for name in names if name.startswith(".") and name != ".sregistry.lock")


# Several processes on one cache


@pytest.mark.parametrize("kind", KINDS)
def test_runs_that_share_a_cache_neither_fail_nor_damage_it_whatever_locks_do(kind: str, tmp_path: Path) -> None:
    cache, seeds = BlobCache(str(tmp_path / "cache")), (1, 2, 3)
    wanted = [*(f"{seed}={digest_of(seed)}" for seed in seeds), "4="]
    processes = [
        file_systems.begin(kind, number % 2, _RUN, [cache.directory, *wanted[number % 2 :], *wanted[: number % 2]])
        for number in range(6)
    ]
    told = [process.communicate(timeout=1200)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 6, "\n".join(told)
    assert all(cache.proven(digest_of(seed)) for seed in (*seeds, 4))
    assert hidden(cache) == []
    if kind == LOCKS_WORK:
        assert sum(int(received) for received in told) == len(seeds) * STEPS * STEP + 6 * STEPS * STEP


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_killed_run_left_is_continued_also_while_others_go_on(kind: str, tmp_path: Path) -> None:
    cache, digest = BlobCache(str(tmp_path / "cache")), digest_of(1)
    arguments = [cache.directory, f"1={digest}"]
    killed = file_systems.begin(kind, 0, _RUN, arguments)
    end = time.monotonic() + 60
    while not (left := stale.made_for(cache.path(digest), hidden(cache))) or os.path.getsize(left[0]) < 5 * STEP:
        assert time.monotonic() < end, "the run never began"
        time.sleep(0.001)
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=1200)
    assert len(left) == 1, left
    had = os.path.getsize(left[0])
    again = file_systems.begin(kind, 0, _RUN, arguments)
    received = again.communicate(timeout=1200)[0]
    assert again.returncode == 0, received
    assert int(received) == STEPS * STEP - had
    assert cache.proven(digest)
    # Where a lock tells nothing, what was left may be in use for all that anybody knows, and stays for a day.
    assert len(hidden(cache)) == (1 if kind in (GRANTS_ALL, REFUSES) else 0)


# One writer


@contextmanager
def turn_of(path: Path) -> Iterator[bool]:
    path.parent.mkdir(exist_ok=True)
    with partial.turn(str(path)) as alone:
        yield alone


def test_a_blob_grows_at_one_place_while_locks_work_and_else_at_one_of_each_run(tmp_path: Path) -> None:
    path = tmp_path / "cache" / "blob"
    with turn_of(path) as alone:
        assert alone
        with partial.growing(str(path), "sha256", alone) as growing:
            assert growing.path == partial.partial_path(str(path))
    with (
        partial.growing(str(path), "sha256", False) as one,
        partial.growing(str(path), "sha256", False) as other,
    ):
        assert len({one.path, other.path, partial.partial_path(str(path))}) == 3


def test_another_host_and_another_boot_have_another_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own = partial.partial_path("/cache/blob")
    assert own == partial.partial_path("/cache/blob")
    (tmp_path / "boot").write_text("another\n", encoding="utf-8")
    with monkeypatch.context() as patch:
        patch.setattr(partial, "_BOOT", str(tmp_path / "boot"))
        assert partial.partial_path("/cache/blob") != own
    names = os.uname()
    monkeypatch.setattr(os, "uname", lambda: os.uname_result((names[0], "another", *names[2:])))
    assert partial.partial_path("/cache/blob") != own


def refuse(_descriptor: object, _operation: int) -> None:
    raise OSError(37, "No locks available")


@pytest.mark.parametrize("locks", [refuse, lambda _descriptor, _operation: None], ids=[REFUSES, GRANTS_ALL])
def test_a_lock_that_keeps_nobody_out_is_known(locks: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path, flags in ((tmp_path, os.O_RDONLY), (tmp_path / "file", os.O_RDWR | os.O_CREAT)):
        descriptor = os.open(path, flags)
        with monkeypatch.context() as patch:
            patch.setattr("fcntl.flock", locks)
            assert not flock.lock(descriptor)
        assert flock.lock(descriptor)
        again = os.open(path, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            flock.lock(again)
        os.close(descriptor)
        assert flock.lock(again)
        os.close(again)


def script(content: bytes, *before: Exception) -> Source:
    """Return a source that fails some times, and then serves all."""
    left = list(before)

    @contextmanager
    def source(offset: int) -> Iterator[tuple[int, Iterator[bytes]]]:
        if left:
            raise left.pop(0)
        yield offset, iter([content[offset:]])

    return source


CONTENT = content_of(1)
BLOB = Descriptor(digest_of(1), len(CONTENT))


def removed_meanwhile(cache: BlobCache, times: int) -> Source:
    """Serve a blob while another program empties the cache some times."""
    left = [None] * times

    @contextmanager
    def source(offset: int) -> Iterator[tuple[int, Iterator[bytes]]]:
        def chunks() -> Iterator[bytes]:
            yield CONTENT[offset:]
            if left:
                left.pop()
                for name in hidden(cache):
                    os.unlink(os.path.join(os.path.dirname(cache.path(BLOB.digest)), name))

        yield offset, chunks()

    return source


def test_what_another_program_removes_on_the_way_is_fetched_again(tmp_path: Path) -> None:
    cache = BlobCache(str(tmp_path))
    assert cache.obtain(BLOB, removed_meanwhile(cache, 2), "the blob").size == len(CONTENT)
    assert cache.proven(BLOB.digest)
    cache.drop(BLOB.digest)
    assert cache.discover("key", len(CONTENT), removed_meanwhile(cache, 2), "the file")[0] == BLOB.digest
    assert hidden(cache) == []
    cache.drop(BLOB.digest)
    with pytest.raises(StorageError, match=f"cannot use {tmp_path}: what is fetched is removed again and again"):
        cache.obtain(BLOB, removed_meanwhile(cache, sys.maxsize // 2**40), "the blob")


@pytest.mark.parametrize(
    ("had", "received"),
    [(CONTENT[:1000], len(CONTENT) - 1000), (b"\0" * 1000, 2 * len(CONTENT) - 1000), (CONTENT * 2, len(CONTENT))],
    ids=["good", "bad", "too long"],
)
def test_what_another_run_has_of_a_blob_is_copied_and_stays(had: bytes, received: int, tmp_path: Path) -> None:
    cache = BlobCache(str(tmp_path))
    directory = Path(cache.path(BLOB.digest)).parent
    directory.mkdir(parents=True)
    own = stale.prefix(cache.path(BLOB.digest))
    other = directory / f"{own.replace(own[-9:], '01234567-')}another{stale.SUFFIX}"
    other.write_bytes(had)
    assert cache.obtain(BLOB, script(CONTENT), "the blob") == Obtained(cache.path(BLOB.digest), len(CONTENT), received)
    assert other.read_bytes() == had


def test_a_file_whose_digest_nobody_told_is_not_begun_with_what_others_have(tmp_path: Path) -> None:
    cache = BlobCache(str(tmp_path))
    place = cache.path(f"sha256:{hashlib.sha256(b'key').hexdigest()}")
    os.makedirs(os.path.dirname(place))
    Path(f"{os.path.dirname(place)}/{stale.prefix(place)}x{stale.SUFFIX}").write_bytes(b"\0" * 1000)
    assert cache.discover("key", len(CONTENT), script(CONTENT), "the file")[0] == BLOB.digest
