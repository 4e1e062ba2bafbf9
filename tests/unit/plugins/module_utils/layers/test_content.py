# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A layer's content: verified while it is read, and read again only if it is still the same."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import IO

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import (
    DigestMismatch,
    InvalidLayer,
    StorageError,
    Unreachable,
)
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.layers import content as module
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.layers.content import (
    ArrivingLayers,
    Content,
    DamagedBlob,
)
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.blobs import BlobCache
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.descriptor import Descriptor

ARCHIVE = Random(1).randbytes(3 << 20) + bytes(3 << 20)  # more than the pieces that are read ahead
BLOB = gzip.compress(ARCHIVE, 1)


class Arrived:
    """Layers that are all in the cache; how much of them is read interests nobody."""

    def wait(self, layer: Descriptor) -> None:
        """Return at once."""

    def note_read(self, layer: Descriptor, position: int) -> None:
        """Take no notice."""


def digest(data: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    """Check that no thread goes on reading, whatever happens."""
    before = set(threading.enumerate())  # one of another test may end meanwhile
    yield
    assert set(threading.enumerate()) <= before


class Cache:
    """A cache with one blob, and contents of it."""

    def __init__(self, directory: Path, blob: bytes) -> None:
        self.cache = BlobCache(str(directory))
        self.descriptor = Descriptor(digest(blob), len(blob))
        self.path = Path(self.cache.path(self.descriptor.digest))
        self.path.parent.mkdir(parents=True)
        self.path.write_bytes(blob)

    def content(self, diff_id: str | None = None, arriving: ArrivingLayers | None = None) -> Content:
        """Return the content, to be verified by its digest."""
        return Content(self.descriptor, diff_id, "the layer", self.cache, arriving or Arrived())

    def damage(self, place: int = 1_000_000) -> None:
        """Change one byte of the blob."""
        raw = bytearray(self.path.read_bytes())
        raw[place] ^= 1
        self.path.write_bytes(bytes(raw))


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path, BLOB)


def read_all(content: Content) -> bytes:
    with content.verified() as archive:
        return b"".join(iter(lambda: archive.read(4096), b""))


@pytest.mark.parametrize("blob", [BLOB, ARCHIVE, b"", gzip.compress(b"", mtime=0)])
@pytest.mark.parametrize("algorithm", ["sha256", "sha512", None])
def test_the_content_is_that_of_the_archive(tmp_path: Path, blob: bytes, algorithm: str | None) -> None:
    plain = gzip.decompress(blob) if blob[:2] == b"\x1f\x8b" else blob
    content = Cache(tmp_path, blob).content(digest(plain, algorithm) if algorithm else None)
    assert read_all(content) == plain
    with content.open() as archive:
        assert b"".join(iter(lambda: archive.read(4096), b"")) == plain
        assert archive.read(1) == b""


class Failing(io.RawIOBase):
    """A disk that fails after a few pieces."""

    def __init__(self, source: IO[bytes], *_more: object) -> None:
        self._source = source
        self._left = 3

    def read(self, _size: int = -1) -> bytes:
        """Read, or fail."""
        self._left -= 1
        if not self._left:
            raise OSError(5, "Input/output error")
        return self._source.read(10)

    def close(self) -> None:
        """Close the file too."""
        self._source.close()
        super().close()


# Verifying


@pytest.mark.parametrize("amount", [0, 1, 100_000])
def test_a_block_that_reads_a_part_has_all_of_it_verified(cache: Cache, amount: int) -> None:
    with pytest.raises(DigestMismatch, match="was published wrongly"), cache.content(digest(b"")).verified() as archive:
        archive.read(amount)
    with cache.content(digest(ARCHIVE)).verified() as archive:
        archive.read(amount)


def test_a_wrong_digest_of_a_sound_blob_is_the_publishers_fault(cache: Cache) -> None:
    wrong = digest(b"another archive")
    with pytest.raises(DigestMismatch) as caught:
        read_all(cache.content(wrong))
    assert not isinstance(caught.value, DamagedBlob)
    assert str(caught.value) == (
        f"digest mismatch for the layer: its content is {digest(ARCHIVE)}, but the image's config says {wrong}; "
        "the image was published wrongly"
    )


def test_a_sound_blob_that_cannot_be_decompressed_is_the_publishers_fault(tmp_path: Path) -> None:
    cut = Cache(tmp_path, BLOB[:-100_000])
    with pytest.raises(InvalidLayer, match=r"^the layer is cut off: the gzip stream has no end$"):
        read_all(cut.content(digest(ARCHIVE)))


@pytest.mark.parametrize("diff_id", [digest(ARCHIVE), None])
@pytest.mark.parametrize("damage", ["a byte", "its end", "all of it", "its magic"])
def test_a_damaged_blob_is_to_be_fetched_again(cache: Cache, diff_id: str | None, damage: str) -> None:
    if damage == "a byte":
        cache.damage()
    elif damage == "its magic":
        cache.damage(0)
    else:
        cache.path.write_bytes(BLOB[:-1000] if damage == "its end" else b"")
    with pytest.raises(DamagedBlob) as caught:
        read_all(cache.content(diff_id))
    assert caught.value.descriptor == cache.descriptor
    assert str(caught.value) == f"digest mismatch for the layer: the cached file {cache.path} is damaged"


def test_a_blob_compressed_otherwise_is_sound_if_its_content_is(cache: Cache) -> None:
    cache.path.write_bytes(gzip.compress(ARCHIVE, 9))
    assert read_all(cache.content(digest(ARCHIVE))) == ARCHIVE
    with pytest.raises(DamagedBlob):
        read_all(cache.content(None))


def test_the_blobs_own_digest_is_computed_only_where_it_has_to_be(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    proven = cache.cache.proven

    def ask(wanted: str) -> bool:
        asked.append(wanted)
        return proven(wanted)

    monkeypatch.setattr(cache.cache, "proven", ask)
    read_all(cache.content(digest(ARCHIVE)))
    assert asked == []
    read_all(cache.content(None))
    assert asked == [cache.descriptor.digest]


@pytest.mark.parametrize("raised", [InvalidLayer("the block says so"), DigestMismatch("the block says so")])
def test_what_the_block_finds_wrong_is_the_caches_fault_if_that_is_damaged(cache: Cache, raised: Exception) -> None:
    with pytest.raises(type(raised), match=r"^the block says so$"), cache.content(digest(ARCHIVE)).verified():
        raise raised
    cache.damage()
    with pytest.raises(DamagedBlob), cache.content(digest(ARCHIVE)).verified():
        raise raised


# The block and its end


@pytest.mark.parametrize("raised", [ValueError("own"), KeyboardInterrupt(), BrokenPipeError(), StopIteration()])
@pytest.mark.parametrize("amount", [0, 1, 2**20])
def test_an_exception_of_the_block_goes_through_as_it_is(cache: Cache, raised: BaseException, amount: int) -> None:
    content = cache.content(digest(ARCHIVE))

    def read_and_raise() -> None:
        with content.verified() as archive:
            archive.read(amount)
            raise raised

    with pytest.raises(type(raised)) as caught:
        read_and_raise()
    assert caught.value is raised
    with pytest.raises(InvalidLayer, match="changed while it was read"):
        content.open()  # it was not verified


def test_a_reader_that_has_not_begun_reads_nothing_much_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []

    class Endless(Failing):
        def read(self, size: int = -1) -> bytes:
            taken.append(size)
            return bytes(1000)

    def wait_and_raise() -> None:
        with content.verified():
            end = time.monotonic() + 60
            while not taken and time.monotonic() < end:
                time.sleep(0.01)
            time.sleep(0.2)  # it could go on now
            raise ValueError("enough")

    monkeypatch.setattr(module, "decompressed", Endless)
    content = Cache(tmp_path, BLOB).content(None)
    with pytest.raises(ValueError, match="enough"):
        wait_and_raise()
    assert 1 <= len(taken) <= 10


def test_an_archive_is_read_ahead_while_the_block_works(cache: Cache) -> None:
    with cache.content(digest(ARCHIVE)).verified() as archive:
        first = archive.read()
        assert threading.active_count() > 1 or not archive.read()
        assert ARCHIVE.startswith(first)


# The blob on disk


def test_what_arrives_is_waited_for(cache: Cache) -> None:
    blob = cache.path.read_bytes()
    cache.path.unlink()
    waited: list[Descriptor] = []

    class Arriving(Arrived):
        def wait(self, layer: Descriptor) -> None:
            waited.append(layer)
            cache.path.write_bytes(blob)

    content = cache.content(digest(ARCHIVE), Arriving())
    assert waited == []
    assert read_all(content) == ARCHIVE
    assert waited == [cache.descriptor]


def test_how_much_of_the_blob_has_been_read_is_told(cache: Cache) -> None:
    told: list[int] = []

    class Told(Arrived):
        def note_read(self, layer: Descriptor, position: int) -> None:
            assert layer == cache.descriptor
            told.append(position)

    assert read_all(cache.content(digest(ARCHIVE), Told())) == ARCHIVE
    assert told == sorted(told)
    assert len(set(told)) > 3
    assert told[-1] == len(BLOB)


def test_what_does_not_arrive_says_why(cache: Cache) -> None:
    class Lost(Arrived):
        def wait(self, layer: Descriptor) -> None:
            raise Unreachable("no route")

    with pytest.raises(Unreachable, match="no route"), cache.content(None, Lost()).verified():
        pytest.fail("the block ran")


@pytest.mark.parametrize(
    ("change", "content"),
    [
        ("rewritten", BLOB),
        ("replaced", BLOB),
        ("touched", None),
        ("replaced", BLOB[:-1] + b"?"),
        ("longer", BLOB + b"x"),
    ],
)
def test_a_blob_that_changed_since_it_was_verified_is_read_again_if_its_content_did_not(
    cache: Cache, change: str, content: bytes | None
) -> None:
    layer = cache.content(digest(ARCHIVE))
    read_all(layer)
    layer.open().close()
    status = cache.path.stat()
    if content is None:
        os.utime(cache.path)
    else:
        time.sleep(0.02)
        other = cache.path.with_name("other") if change == "replaced" else cache.path
        other.write_bytes(content)
        os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
        other.rename(cache.path)
    if content in (None, BLOB):
        for _time in range(2):
            with layer.open() as archive:
                assert b"".join(iter(archive.read, b"")) == ARCHIVE
    else:
        with pytest.raises(InvalidLayer, match=r"^the layer changed while it was read$"):
            layer.open()


@pytest.mark.parametrize("content", [BLOB, BLOB[:-1] + b"?"])
def test_a_blob_that_changes_while_it_is_verified_is_proven_before_it_is_read_again(
    cache: Cache, content: bytes
) -> None:
    layer = cache.content(digest(ARCHIVE))
    with layer.verified():
        other = cache.path.with_name("other")
        other.write_bytes(content)
        other.rename(cache.path)
    if content == BLOB:
        layer.open().close()
    else:
        with pytest.raises(InvalidLayer, match="changed while it was read"):
            layer.open()


def test_a_blob_that_was_never_verified_is_not_opened(cache: Cache) -> None:
    with pytest.raises(InvalidLayer, match="changed while it was read"):
        cache.content(digest(ARCHIVE)).open()


def test_a_blob_that_another_run_removed_is_to_be_fetched_again(cache: Cache) -> None:
    content = cache.content(digest(ARCHIVE))
    read_all(content)
    cache.path.unlink()
    with pytest.raises(DamagedBlob, match="the layer was removed from the cache meanwhile"):
        read_all(content)
    with pytest.raises(DamagedBlob, match="the layer was removed from the cache meanwhile"):
        content.open()


@pytest.mark.parametrize("amount", [0, 100])
def test_a_disk_that_fails_is_an_error_of_the_storage(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, amount: int
) -> None:
    content = cache.content(digest(ARCHIVE))
    read_all(content)
    monkeypatch.setattr(module, "decompressed", Failing)

    def verify() -> None:
        with content.verified() as archive:
            b"".join(archive.read(1) for _piece in range(amount))

    with pytest.raises(StorageError, match=rf"{cache.path}.*Input/output error"):
        verify()
    with content.open() as archive, pytest.raises(StorageError, match="Input/output error"):
        b"".join(iter(lambda: archive.read(1), b""))


def test_a_disk_that_fails_at_once_is_an_error_of_the_storage(cache: Cache) -> None:
    cache.path.unlink()
    cache.path.symlink_to("/proc/self/mem")  # opens, and cannot be read at its beginning
    with pytest.raises(StorageError, match="Input/output error"):
        read_all(cache.content(digest(ARCHIVE)))


def test_files_are_closed(cache: Cache) -> None:
    before = set(os.listdir("/proc/self/fd"))
    content = cache.content(digest(ARCHIVE))
    read_all(content)
    content.open().close()
    with pytest.raises(ZeroDivisionError), content.verified():
        raise ZeroDivisionError
    cache.damage()
    with pytest.raises(InvalidLayer):
        content.open()
    with pytest.raises(DamagedBlob):
        read_all(content)
    assert set(os.listdir("/proc/self/fd")) <= before


def test_closing_twice_is_no_error(cache: Cache) -> None:
    content = cache.content(digest(ARCHIVE))
    read_all(content)
    archive = content.open()
    archive.close()
    archive.close()
    assert zlib.crc32(read_all(content)) == zlib.crc32(ARCHIVE)
