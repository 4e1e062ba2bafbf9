# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cache of blobs: what is in it is whole, what is not in it leaves no trace, and nothing is fetched twice."""

from __future__ import annotations

import fcntl
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import (
    Denied,
    DigestMismatch,
    NoSpace,
    NotFound,
    StorageError,
    Unreachable,
)
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci import cache_lock
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci import partial as partial_module
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.blobs import BlobCache, Obtained, tally
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.descriptor import Descriptor
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.partial import Source
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.registry import blob_source as sources
from ansible_collections.hpc.sregistry.tests.unit.plugins.module_utils.conftest import Connect, Stored

from tests.faults import Fault, FaultyRegistry, faults
from tests.lab import oci

CONTENT = bytes(range(256)) * 1000
BLOB = Descriptor(oci.digest_of(CONTENT), len(CONTENT))
BLOBS = "/blobs/"
HALF = 1_600_000


class Script:
    """A source that plays one part after the other: chunks from an offset on, then perhaps an error."""

    def __init__(self, *parts: tuple[int | None, Sequence[bytes], Exception | None]) -> None:
        """
        :param parts: where the data begins (None: where it was asked for), the chunks, and how it ends.
        """
        self._parts = list(parts)
        self.asked: list[int] = []

    @contextmanager
    def __call__(self, offset: int) -> Iterator[tuple[int, Iterator[bytes]]]:
        """Play the next part."""
        self.asked.append(offset)
        begin, chunks, error = self._parts.pop(0)

        def data() -> Iterator[bytes]:
            yield from chunks
            if error:
                raise error

        yield offset if begin is None else begin, data()


BROKEN = Unreachable("the connection broke")


def whole(content: bytes = CONTENT) -> Script:
    """Return a source that serves everything at once."""
    return Script((0, [content], None))


@pytest.fixture
def cache(tmp_path: Path) -> BlobCache:
    """Return an empty cache."""
    return BlobCache(str(tmp_path / "cache"))


def files(cache: BlobCache) -> list[str]:
    """Return the names of all files in a cache."""
    return sorted(name for _parent, _directories, names in os.walk(cache.directory) for name in names)


def partial(cache: BlobCache, content: bytes, digest: str = BLOB.digest) -> Path:
    """Leave a part of a blob, as a killed run does."""
    Path(cache.path(digest)).parent.mkdir(parents=True)
    leftover = Path(partial_module.partial_path(cache.path(digest)))
    leftover.write_bytes(content)
    return leftover


def source_of(connect: Connect, registry: FaultyRegistry, digest: str) -> Source:
    """Return a blob of ``team/big`` over the network."""
    return sources.source_of(connect(registry.address), "team/big", Descriptor(digest, None))


def big(stored: Stored) -> Descriptor:
    """Return the layer of ``team/big``."""
    return Descriptor(stored.blob.digest, len(stored.blob.blob))


# Into the cache


def test_a_blob_lies_where_an_oci_layout_has_it(cache: BlobCache) -> None:
    obtained = cache.obtain(BLOB, whole(), "the blob")
    assert obtained == Obtained(f"{cache.directory}/blobs/sha256/{BLOB.digest[7:]}", len(CONTENT), len(CONTENT))
    assert Path(obtained.path).read_bytes() == CONTENT
    assert files(cache) == [BLOB.digest[7:]]


def test_a_cached_blob_is_not_fetched(cache: BlobCache) -> None:
    cache.obtain(BLOB, whole(), "the blob")
    assert cache.obtain(BLOB, Script(), "the blob").received == 0
    assert cache.holds(BLOB)


@pytest.mark.parametrize("content", [b"", b"\0" * 10, b"\0" * (len(CONTENT) + 1)], ids=["empty", "short", "long"])
def test_a_cached_blob_of_the_wrong_size_is_fetched_again(content: bytes, cache: BlobCache) -> None:
    cache.obtain(BLOB, whole(), "the blob")
    Path(cache.path(BLOB.digest)).write_bytes(content)
    assert not cache.holds(BLOB)
    assert cache.obtain(BLOB, whole(), "the blob").received == len(CONTENT)
    assert cache.proven(BLOB.digest)


def test_without_a_size_the_digest_of_a_cached_blob_decides(cache: BlobCache) -> None:
    sizeless = Descriptor(BLOB.digest, None)
    cache.obtain(sizeless, whole(), "the blob")
    assert cache.obtain(sizeless, Script(), "the blob").received == 0
    Path(cache.path(BLOB.digest)).write_bytes(b"\0" * len(CONTENT))
    assert cache.obtain(sizeless, whole(), "the blob").received == len(CONTENT)


def test_an_empty_blob_is_a_blob(cache: BlobCache) -> None:
    empty = Descriptor(oci.digest_of(b""), 0)
    assert cache.obtain(empty, Script((0, [], None)), "the blob").size == 0
    assert files(cache) == [empty.digest[7:]]


def test_a_small_blob_is_read_and_proven_even_if_cached(cache: BlobCache) -> None:
    assert cache.read(BLOB, len(CONTENT), whole(), "the config")[0] == CONTENT
    Path(cache.path(BLOB.digest)).write_bytes(b"\0" * len(CONTENT))  # the right size, another content
    content, obtained = cache.read(BLOB, len(CONTENT), whole(), "the config")
    assert content == CONTENT
    assert obtained.received == len(CONTENT)


def test_a_blob_that_claims_to_be_too_large_to_read_is_not_fetched(cache: BlobCache) -> None:
    with pytest.raises(DigestMismatch, match=f"the config claims {len(CONTENT)} bytes"):
        cache.read(BLOB, len(CONTENT) - 1, Script(), "the config")


def test_a_dropped_blob_is_gone_and_may_be_dropped_again(cache: BlobCache) -> None:
    cache.obtain(BLOB, whole(), "the blob")
    cache.drop(BLOB.digest)
    cache.drop(BLOB.digest)
    assert files(cache) == []
    assert not cache.proven(BLOB.digest)


def test_the_tally_counts_what_came_and_what_was_there() -> None:
    obtained = [Obtained("a", 10, 10), Obtained("b", 20, 5), Obtained("c", 40, 0)]
    assert tally(obtained) == {"fetched": {"blobs": 2, "bytes": 15}, "cached": {"blobs": 1, "bytes": 40}}


# Once


def test_twenty_threads_fetch_each_blob_once(
    stored: Stored, faulty: FaultyRegistry, connect: Connect, cache: BlobCache
) -> None:
    faulty.when(BLOBS, faults.delayed(0.3))
    session = connect(faulty.address)
    wanted = [big(stored), *(Descriptor(layer.digest, len(layer.blob)) for layer in stored.tiny.layers)]

    def obtain(number: int) -> Obtained:
        descriptor = wanted[number % len(wanted)]
        repository = "team/big" if descriptor == wanted[0] else "team/tiny"
        return cache.obtain(descriptor, sources.source_of(session, repository, descriptor), "the blob")

    with ThreadPoolExecutor(20) as pool:
        obtained = list(pool.map(obtain, range(20)))
    assert sorted(each.path for each in faulty.requests) == sorted(
        f"/v2/team/{'big' if each == wanted[0] else 'tiny'}/blobs/{each.digest}" for each in wanted
    )
    assert sum(each.received for each in obtained) == sum(each.size or 0 for each in wanted)


_PROCESS = """
import sys
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.blobs import BlobCache
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.transport.keychain import Keychain
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.descriptor import Descriptor
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.transport.options import Transport
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.registry.client import Registry
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.registry.blob_source import source_of

directory, address, digest, size = sys.argv[1:]
session = Registry(address, Keychain(), Transport(http=True))
blob = Descriptor(digest, int(size))
print(BlobCache(directory).obtain(blob, source_of(session, "team/big", blob), "the blob").received)
"""


def begin_process(cache: BlobCache, registry: FaultyRegistry, blob: Descriptor) -> subprocess.Popen[str]:
    """Start another run that fetches a blob."""
    command = [sys.executable, "-c", _PROCESS, cache.directory, registry.address, blob.digest, str(blob.size)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def test_several_processes_fetch_a_blob_once(stored: Stored, faulty: FaultyRegistry, cache: BlobCache) -> None:
    faulty.when(BLOBS, faults.delayed(3))
    processes = [begin_process(cache, faulty, big(stored)) for _number in range(4)]
    received = sorted(int(process.communicate(timeout=1200)[0]) for process in processes)
    assert received == [0, 0, 0, len(stored.blob.blob)]
    assert len(faulty.requests) == 1
    assert files(cache) == [stored.blob.digest[7:]]


def test_what_one_repository_refuses_another_may_give(
    stored: Stored, faulty: FaultyRegistry, connect: Connect, cache: BlobCache
) -> None:
    faulty.when("team/other/", faults.together(faults.delayed(0.5), faults.status(403)))
    session = connect(faulty.address)

    def obtain(repository: str) -> int:
        if repository == "team/big":
            while not faulty.requests:  # the other one is first
                time.sleep(0.01)
        return cache.obtain(big(stored), sources.source_of(session, repository, big(stored)), repository).received

    with ThreadPoolExecutor(2) as pool:
        refused, given = (pool.submit(obtain, repository) for repository in ("team/other", "team/big"))
    assert given.result() == len(stored.blob.blob)
    with pytest.raises(Denied, match="team/other"):
        refused.result()


# Broken connections


def test_a_broken_transfer_is_resumed_where_it_broke(
    stored: Stored, faulty: FaultyRegistry, connect: Connect, cache: BlobCache
) -> None:
    faulty.when(BLOBS, faults.truncated(HALF), times=1)
    obtained = cache.obtain(big(stored), source_of(connect, faulty, stored.blob.digest), "the blob")
    first, second = faulty.requests
    assert "range" not in first.headers
    assert second.status == 206
    begin = int(second.headers["range"].removeprefix("bytes=").removesuffix("-"))
    assert HALF - 300_000 < begin <= HALF
    assert obtained.received == len(stored.blob.blob), "no byte was kept twice"
    assert cache.proven(stored.blob.digest)


def test_a_registry_that_breaks_each_transfer_is_worn_down(
    stored: Stored, faulty: FaultyRegistry, connect: Connect, cache: BlobCache
) -> None:
    faulty.when(BLOBS, faults.truncated(1_200_000))
    cache.obtain(big(stored), source_of(connect, faulty, stored.blob.digest), "the blob")
    assert cache.proven(stored.blob.digest)
    assert len(faulty.requests) == 3


def test_without_range_a_broken_transfer_begins_anew(
    stored: Stored, faulty: FaultyRegistry, connect: Connect, cache: BlobCache
) -> None:
    without_range = faults.asks_for("Range", None)
    faulty.when(BLOBS, faults.together(faults.truncated(HALF), without_range), times=1)
    faulty.when(BLOBS, without_range)
    obtained = cache.obtain(big(stored), source_of(connect, faulty, stored.blob.digest), "the blob")
    assert [each.status for each in faulty.requests] == [200, 200]
    assert obtained.received > len(stored.blob.blob), "some of it came twice"
    assert cache.proven(stored.blob.digest)


@pytest.mark.parametrize("size", [0, HALF])
def test_a_blob_that_is_always_cut_off_is_given_up(
    size: int, stored: Stored, faulty: FaultyRegistry, connect: Connect, cache: BlobCache
) -> None:
    faulty.when(BLOBS, faults.together(faults.truncated(size), faults.asks_for("Range", None)))
    with pytest.raises(Unreachable, match=stored.blob.digest):
        cache.obtain(big(stored), source_of(connect, faulty, stored.blob.digest), "the blob")
    assert len(faulty.requests) <= 4
    assert files(cache) == []


def test_a_registry_that_ends_a_blob_too_early_in_good_order_is_given_up(cache: BlobCache) -> None:
    source = Script((0, [CONTENT[:100]], None), (None, [], None), (None, [], None), (None, [], None))
    with pytest.raises(Unreachable, match=f"the blob is truncated: .* after 100 of {len(CONTENT)} bytes"):
        cache.obtain(BLOB, source, "the blob")
    assert source.asked == [0, 100, 100, 100]
    assert files(cache) == []


def test_progress_renews_the_patience(cache: BlobCache) -> None:
    step = len(CONTENT) // 10
    parts: list[tuple[int | None, Sequence[bytes], Exception | None]] = []
    for begin in range(0, len(CONTENT), step):
        parts += [(None, [], BROKEN), (None, [], BROKEN), (None, [CONTENT[begin : begin + step]], BROKEN)]
    assert cache.obtain(BLOB, Script(*parts), "the blob").received == len(CONTENT)


def test_the_patience_is_what_was_asked_for(tmp_path: Path) -> None:
    source = Script(*((None, [], BROKEN) for _time in range(5)))
    with pytest.raises(Unreachable, match="the connection broke"):
        BlobCache(str(tmp_path), breaks=5).obtain(BLOB, source, "the blob")
    assert source.asked == [0] * 5


# Damage


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (CONTENT[:-1] + b"\0", "not " + BLOB.digest),
        (CONTENT + b"\0", f"more than its {len(CONTENT)} bytes"),
        (CONTENT * 3, f"more than its {len(CONTENT)} bytes"),
    ],
    ids=["corrupted", "a byte more", "much more"],
)
def test_a_blob_that_is_another_one_is_refused(content: bytes, said: str, cache: BlobCache) -> None:
    with pytest.raises(DigestMismatch, match=said) as caught:
        cache.obtain(BLOB, whole(content), "the blob of an image")
    assert "digest mismatch for the blob of an image" in str(caught.value)
    assert files(cache) == []
    assert cache.obtain(BLOB, whole(), "the blob").size == len(CONTENT), "the next run is not spoiled"


@pytest.mark.parametrize("fault", [faults.corrupted(5), faults.padded(b"more")], ids=["corrupted", "larger"])
def test_a_registry_that_damages_a_blob_is_named(
    fault: Fault, stored: Stored, faulty: FaultyRegistry, connect: Connect, cache: BlobCache
) -> None:
    faulty.when(BLOBS, fault)
    with pytest.raises(DigestMismatch, match="digest mismatch for the blob"):
        cache.obtain(big(stored), source_of(connect, faulty, stored.blob.digest), "the blob")
    assert files(cache) == []
    assert len(faulty.requests) == 1


def test_a_blob_that_does_not_exist_leaves_nothing(
    stored: Stored, faulty: FaultyRegistry, connect: Connect, cache: BlobCache
) -> None:
    missing = Descriptor("sha256:" + 64 * "1", 5)
    with pytest.raises(NotFound, match=f"{missing.digest} of {faulty.address}/team/big"):
        cache.obtain(missing, source_of(connect, faulty, missing.digest), "the blob")
    assert files(cache) == []


# Left by a killed run


def test_a_killed_run_is_continued(stored: Stored, faulty: FaultyRegistry, connect: Connect, cache: BlobCache) -> None:
    faulty.when(BLOBS, faults.truncated(HALF, stall=60), times=1)
    process = begin_process(cache, faulty, big(stored))
    leftover = Path(partial_module.partial_path(cache.path(stored.blob.digest)))
    deadline = time.monotonic() + 60
    while not (leftover.exists() and leftover.stat().st_size > 1_000_000):
        assert time.monotonic() < deadline, "the other run never began"
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=1200)
    had = leftover.stat().st_size
    obtained = cache.obtain(big(stored), source_of(connect, faulty, stored.blob.digest), "the blob")
    assert faulty.requests[-1].headers["range"] == f"bytes={had}-"
    assert obtained.received == len(stored.blob.blob) - had
    assert cache.proven(stored.blob.digest)
    assert files(cache) == [stored.blob.digest[7:]]


def test_a_leftover_that_is_whole_needs_no_network(cache: BlobCache) -> None:
    partial(cache, CONTENT)
    assert cache.obtain(BLOB, Script(), "the blob") == Obtained(cache.path(BLOB.digest), len(CONTENT), 0)
    assert files(cache) == [BLOB.digest[7:]]


@pytest.mark.parametrize(
    ("leftover", "asked"),
    [(b"\0" * 1000, [1000, 0]), (b"\0" * len(CONTENT), [0]), (b"\0" * (len(CONTENT) + 1), [0])],
    ids=["bad", "bad and whole", "too long"],
)
def test_a_leftover_that_is_bad_is_given_up(leftover: bytes, asked: list[int], cache: BlobCache) -> None:
    partial(cache, leftover)
    parts = [(None, [CONTENT[offset:]], None) for offset in asked]
    source = Script(*parts)
    obtained = cache.obtain(BLOB, source, "the blob")
    assert source.asked == asked
    assert obtained.received == sum(len(CONTENT) - offset for offset in asked)
    assert cache.proven(BLOB.digest)
    assert files(cache) == [BLOB.digest[7:]]


@pytest.mark.parametrize("extra", [b"", b"\0"], ids=["whole", "bad"])
def test_a_leftover_of_unknown_size_is_continued_or_given_up(
    extra: bytes, stored: Stored, faulty: FaultyRegistry, connect: Connect, cache: BlobCache
) -> None:
    partial(cache, stored.blob.blob + extra, stored.blob.digest)
    sizeless = Descriptor(stored.blob.digest, None)
    cache.obtain(sizeless, source_of(connect, faulty, stored.blob.digest), "the blob")
    assert cache.proven(stored.blob.digest)
    assert files(cache) == [stored.blob.digest[7:]]


def test_a_leftover_and_a_registry_that_damages_is_a_mismatch(cache: BlobCache) -> None:
    partial(cache, b"\0" * 1000)
    with pytest.raises(DigestMismatch):
        cache.obtain(BLOB, Script((None, [CONTENT[1000:]], None), (0, [CONTENT[:-1] + b"\0"], None)), "the blob")
    assert files(cache) == []


# Room and rights


def test_what_cannot_fit_is_not_begun(small_disk: Path) -> None:
    cache = BlobCache(str(small_disk / "cache"))
    content = bytes(2 << 20)
    with pytest.raises(NoSpace, match=f"no space left in {cache.directory}: the blob needs 2.0 MiB, it has"):
        cache.obtain(Descriptor(oci.digest_of(content), len(content)), Script(), "the blob")
    assert files(cache) == []


@pytest.mark.parametrize("chunk", [1 << 20, 1000], ids=["large chunks", "small chunks"])
def test_a_disk_that_fills_on_the_way_leaves_nothing(chunk: int, small_disk: Path) -> None:
    cache = BlobCache(str(small_disk / "cache"))
    content = bytes(2 << 20)
    chunks = [content[begin : begin + chunk] for begin in range(0, len(content), chunk)]
    with pytest.raises(NoSpace, match=f"no space left while writing {cache.directory}.*free some"):
        cache.obtain(Descriptor(oci.digest_of(content), None), Script((0, chunks, None)), "the blob")
    assert files(cache) == []
    assert cache.obtain(BLOB, whole(), "the blob").size == len(CONTENT)


def test_a_cache_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(StorageError, match=f"cannot use {tmp_path}/file.*Not a directory"):
        BlobCache(str(tmp_path / "file" / "cache")).obtain(BLOB, whole(), "the blob")


def test_an_interrupted_transfer_leaves_nothing(cache: BlobCache, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(partial_module.Transfer, "fetch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cache.obtain(BLOB, whole(), "the blob")
    assert files(cache) == []


# A cache that others write to


PLACES = pytest.mark.parametrize(
    "place", [partial_module.partial_path, partial_module.lock_path], ids=["where it grows", "what is locked"]
)


def leftover_place(cache: BlobCache, place: Callable[[str], str]) -> Path:
    """Return the place where a run makes a file for the blob, in a directory that exists."""
    path = cache.path(BLOB.digest)
    os.makedirs(os.path.dirname(path))
    return Path(place(path))


@PLACES
@pytest.mark.parametrize("kind", ["symlink", "dangling symlink", "hard link", "fifo", "directory"])
def test_what_was_planted_where_a_blob_grows_is_not_written_to(
    kind: str, place: Callable[[str], str], cache: BlobCache, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    planted = leftover_place(cache, place)
    if kind != "dangling symlink":
        victim.write_bytes(b"precious")
    if kind == "hard link":
        os.link(victim, planted)
    elif kind == "fifo":
        os.mkfifo(planted)
    elif kind == "directory":
        planted.mkdir()
    else:
        planted.symlink_to(victim)
    assert cache.obtain(BLOB, whole(), "the blob").received == len(CONTENT)
    assert not Path(cache.path(BLOB.digest)).is_symlink()
    assert victim.exists() == (kind != "dangling symlink")
    if victim.exists():
        assert victim.read_bytes() == b"precious"
    assert sorted(os.listdir(planted.parent)) == [planted.name, BLOB.digest[7:]]


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user")


@needs_root
def test_a_leftover_of_another_user_is_not_continued(cache: BlobCache) -> None:
    os.chown(partial(cache, CONTENT[:1000]), 65534, 65534)
    source = whole()
    cache.obtain(BLOB, source, "the blob")
    assert source.asked == [0]
    assert os.stat(cache.path(BLOB.digest)).st_uid == os.geteuid()


@needs_root
@PLACES
def test_what_another_user_holds_is_neither_written_to_nor_waited_for(
    place: Callable[[str], str], cache: BlobCache
) -> None:
    planted = leftover_place(cache, place)
    planted.write_bytes(CONTENT[:1000])
    os.chown(planted, 65534, 65534)
    with planted.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert cache.obtain(BLOB, whole(), "the blob").received == len(CONTENT)
    assert planted.read_bytes() == CONTENT[:1000]


def test_who_holds_the_whole_cache_for_good_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_lock, "_TURNS", 2)
    cache = BlobCache(str(tmp_path / "shared"), shared=True)
    (tmp_path / "shared").mkdir()
    with (tmp_path / "shared" / ".sregistry.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert cache.obtain(BLOB, whole(), "the blob").received == len(CONTENT)


def test_a_link_in_the_place_of_a_blob_is_not_trusted(cache: BlobCache, tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(CONTENT)
    place = Path(cache.path(BLOB.digest))
    place.parent.mkdir(parents=True)
    place.symlink_to(tmp_path / "other")
    assert not cache.holds(BLOB)
    assert not cache.proven(BLOB.digest)
    assert cache.obtain(BLOB, whole(), "the blob").received == len(CONTENT)
    assert not place.is_symlink()


@needs_root
def test_a_cached_blob_of_another_user_that_cannot_be_read_is_named(public: Path) -> None:
    cache = BlobCache(str(public / "blob"))
    path = cache.obtain(BLOB, whole(), "the blob").path
    cause = (
        "import os, sys\n"
        "from ansible_collections.hpc.sregistry.plugins.module_utils._internal import errors\n"
        "from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci import blobs, descriptor\n"
        "os.seteuid(65534)\n"
        "cache = blobs.BlobCache(sys.argv[1])\n"
        "blob = descriptor.Descriptor(sys.argv[2], int(sys.argv[3]))\n"
        "for get in (cache.obtain, lambda *more: cache.read(blob, 1 << 30, *more[1:])):\n"
        "    try:\n"
        "        get(blob, None, 'the blob')\n"
        "    except errors.StorageError as error:\n"
        "        print(error)\n"
    )
    os.chmod(path, 0o600)
    for parent in Path(path).relative_to(public).parents:
        os.chmod(public / parent, 0o755)
    command = [sys.executable, "-B", "-c", cause, cache.directory, BLOB.digest, str(len(CONTENT))]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(said) == 2
    assert all(f"cannot read the cached blob {path}: Permission denied" in line for line in said)


def test_a_blob_that_cannot_be_dropped_is_named(cache: BlobCache) -> None:
    Path(cache.path(BLOB.digest)).mkdir(parents=True)
    with pytest.raises(StorageError, match=f"cannot use {cache.path(BLOB.digest)}"):
        cache.drop(BLOB.digest)


# A registry that never ends


def test_resumptions_are_bounded(cache: BlobCache) -> None:
    """Without Range, a little more or less each time would count as progress for ever."""
    source = Script(*((0, [CONTENT[: 10 + n % 2]], BROKEN) for n in range(1000)))
    monotonous = Script(*((None, [CONTENT[n : n + 1]], BROKEN) for n in range(1000)))
    for endless in (source, monotonous):
        with pytest.raises(Unreachable):
            cache.obtain(BLOB, endless, "the blob")
        assert len(endless.asked) == 100
    assert files(cache) == []


def test_a_blob_of_unknown_size_does_not_fill_the_disk(cache: BlobCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partial_module, "_UNKNOWN_STEP", 1 << 20)
    monkeypatch.setattr(partial_module, "_UNKNOWN_RESERVE", 1 << 60)
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while True:
            sent += 1 << 18
            yield bytes(1 << 18)

    @contextmanager
    def source(_offset: int) -> Iterator[tuple[int, Iterator[bytes]]]:
        yield 0, endless()

    with pytest.raises(NoSpace, match="the blob, whose size is unknown, needs"):
        cache.obtain(Descriptor(BLOB.digest, None), source, "the blob")
    assert sent == 1 << 20
    assert files(cache) == []


# Files that are kept


@pytest.fixture
def kept(tmp_path: Path) -> tuple[BlobCache, Path, str]:
    """Return a cache that keeps a file, the file, and its digest."""
    place = tmp_path / "image.sif"
    place.write_bytes(b"image")
    place.chmod(0o755)
    digest = f"sha256:{hashlib.sha256(b'image').hexdigest()}"
    cache = BlobCache(str(tmp_path / "cache"))
    cache.keep(str(place), digest)
    return cache, place, digest


def give(cache: BlobCache, digest: str, place: Path) -> bool:
    return cache.give(digest, str(place), lambda path: os.chmod(path, 0o700))


def test_a_deleted_file_is_given_back_prepared(kept: tuple[BlobCache, Path, str]) -> None:
    cache, place, digest = kept
    inode = place.stat().st_ino
    assert not cache.keeps(digest), "it is in use"
    place.unlink()
    assert cache.keeps(digest)
    assert give(cache, digest, place)
    assert (place.read_bytes(), place.stat().st_ino, place.stat().st_mode & 0o777) == (b"image", inode, 0o700)
    assert set(os.listdir(place.parent)) == {"image.sif", "cache"}


def test_a_file_that_is_in_use_elsewhere_is_not_given(kept: tuple[BlobCache, Path, str], tmp_path: Path) -> None:
    cache, place, digest = kept
    other = tmp_path / "other.sif"
    assert not give(cache, digest, other)
    assert not other.exists()
    assert place.stat().st_mode & 0o777 == 0o755


def _append(place: Path, cached: Path) -> None:
    with place.open("ab") as stream:
        stream.write(b"signature")


def _writable(place: Path, cached: Path) -> None:
    place.chmod(0o775)


def _of_another(place: Path, cached: Path) -> None:
    os.chown(place, 12345, -1)


def _pipe(place: Path, cached: Path) -> None:
    cached.unlink()
    os.mkfifo(cached)


def _symlink(place: Path, cached: Path) -> None:
    cached.unlink()
    cached.symlink_to("/etc/hostname")


@pytest.mark.parametrize("spoil", [_append, _writable, _of_another, _pipe, _symlink])
def test_what_is_not_the_file_that_was_kept_is_not_given_and_makes_room_for_it(
    kept: tuple[BlobCache, Path, str], spoil: Callable[[Path, Path], None]
) -> None:
    cache, place, digest = kept
    if spoil is _of_another and os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    spoil(place, Path(cache.path(digest)))
    place.unlink()
    assert not give(cache, digest, place)
    assert not place.exists()
    place.write_bytes(b"image")
    cache.keep(str(place), digest)
    place.unlink()
    assert give(cache, digest, place)


def test_a_file_on_another_file_system_is_not_kept_and_no_error(tmp_path: Path) -> None:
    shared = Path("/dev/shm")  # a file system of its own wherever there is one
    if not shared.is_dir() or shared.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system at /dev/shm")
    place = tmp_path / "image.sif"
    place.write_bytes(b"image")
    digest = f"sha256:{hashlib.sha256(b'image').hexdigest()}"
    with tempfile.TemporaryDirectory(dir=shared) as directory:
        cache = BlobCache(directory)
        cache.keep(str(place), digest)
        assert not os.path.exists(cache.path(digest))
        cache.forget(digest)


def test_a_blob_of_unknown_digest_is_found_under_it(cache: BlobCache) -> None:
    source = Script((None, [CONTENT[:1000]], BROKEN), (None, [CONTENT[1000:]], None))
    digest, obtained = cache.discover("key", len(CONTENT), source, "the file")
    assert digest == BLOB.digest
    assert obtained == Obtained(cache.path(digest), len(CONTENT), len(CONTENT))
    assert source.asked == [0, 1000]
    assert cache.proven(digest)
    assert len(files(cache)) == 1


def test_a_blob_of_unknown_digest_that_another_one_takes_the_place_of_is_begun_anew(cache: BlobCache) -> None:
    source = Script((None, [b"x" * 1000], BROKEN), (0, [CONTENT], None))
    assert cache.discover("key", len(CONTENT), source, "the file")[0] == BLOB.digest


@pytest.mark.parametrize("size", [len(CONTENT) - 1, len(CONTENT) + 1])
def test_a_blob_of_unknown_digest_but_another_size_leaves_nothing(cache: BlobCache, size: int) -> None:
    source = Script((None, [CONTENT], None), *[(None, [], None)] * 3)
    with pytest.raises((DigestMismatch, Unreachable)):
        cache.discover("key", size, source, "the file")
    assert files(cache) == []
