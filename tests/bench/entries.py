# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What layers of many small files cost the module's process: ``make bench ARGS=entries``.

Three gzip layers with the paths of conda environments are read, verified, united, and written as one tar archive that
nobody reads: by the code of a pull, without an engine and a packer. Each run is a process of its own.
"""

from __future__ import annotations

import gzip
import json
import resource
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.hpc.sregistry.plugins.module_utils._internal.fs.digest import hash_of
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.layers.content import Content
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.layers.stream import Archive, write_foreseen
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.layers.tar import DIRECTORY, FILE, SYMLINK, Entry
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.layers.tar_writer import TarWriter
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.layers.union import Census, Union
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.blobs import BlobCache
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.descriptor import Descriptor
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.pull import pull
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.sif.builder import indexed

from tests.measure.command import in_own_process, say
from tests.measure.figures import MEGABYTE
from tests.measure.table import Table

LIMITS = {300_000: 170, 1_000_000: 480}  # MB of the whole process, by number of entries
STREAM, SANDBOX = "stream", "sandbox"
LAYERS = 3
_OF_DIRECTORY = 12  # entries
_TEXT = b"from __future__ import annotations\n" * 12


@dataclass(frozen=True)
class Cost:
    """One run: the entries, the builder whose way it took, the peak of its memory in bytes, its CPU seconds."""

    entries: int
    builder: str
    peak: int
    cpu: float


def run() -> str:
    """Measure, and return the table."""
    costs = []
    for count in LIMITS:
        with tempfile.TemporaryDirectory() as directory:
            say(f"Making layers of {count:,} entries")
            layers = [_make(directory, number, count // LAYERS) for number in range(LAYERS)]
            for builder in (STREAM, SANDBOX):
                costs.append(Cost(**in_own_process(__name__, directory, count, builder, json.dumps(layers))))
    return Table.of(
        costs,
        ("builder", lambda cost: cost.builder),
        ("entries", lambda cost: f"{cost.entries:,}"),
        ("peak MB", lambda cost: f"{cost.peak / MEGABYTE:.0f}"),
        ("at most", lambda cost: str(LIMITS[cost.entries])),
        ("CPU s", lambda cost: f"{cost.cpu:.1f}"),
        ("CPU s per 100,000", lambda cost: f"{cost.cpu / cost.entries * 100_000:.2f}"),
    ).text()


def _make(directory: str, number: int, count: int) -> tuple[str, int, str]:
    """Write a layer into a cache. Returns digest and size of the blob, and the digest of its content."""
    path = Path(directory, f"layer{number}")
    with path.open("wb") as blob, gzip.GzipFile(fileobj=blob, mode="wb", compresslevel=1, mtime=0) as target:
        stream: Any = target
        writer = TarWriter(stream)
        for entry in _environment(number, count):
            writer.add(entry, [memoryview(_TEXT)[: entry.size]] if entry.size else None)
        writer.finish()
    with path.open("rb") as compressed:
        digest = hash_of(compressed).hexdigest()
    with gzip.open(path) as content:
        inflated: Any = content
        diff_id = hash_of(inflated).hexdigest()
    place = Path(BlobCache(directory).path(f"sha256:{digest}"))
    place.parent.mkdir(parents=True, exist_ok=True)
    path.rename(place)
    return f"sha256:{digest}", place.stat().st_size, f"sha256:{diff_id}"


def _environment(number: int, count: int) -> Iterator[Entry]:
    """Yield entries of paths of 60 to 90 bytes, one in twelve a directory, one in twenty a symlink."""
    for ordinal in range(count):
        place = ordinal // _OF_DIRECTORY
        package = b"opt/conda/envs/env%d/lib/python3.12/site-packages/pack%d/sub_%d" % (number, place // 9, place)
        moment = 1_700_000_000 + ordinal * 7
        if ordinal % _OF_DIRECTORY == 0:
            yield Entry(package, DIRECTORY, 0o755, 0, 0, moment)
        elif ordinal % 20 == 0:
            yield Entry(package + b"/lib%d.so" % ordinal, SYMLINK, 0o777, 0, 0, moment, 0, b"lib%d.so.1" % ordinal)
        else:
            size = 1 + ordinal % len(_TEXT)
            yield Entry(package + b"/module_%d.py" % ordinal, FILE, 0o644, 0, 0, moment, size)


class _Arrived:
    """Layers that are all in the cache; how much of them is read interests nobody."""

    def wait(self, layer: Descriptor) -> None:
        """Return at once."""

    def note_read(self, layer: Descriptor, position: int) -> None:
        """Take no notice."""


def _cost(directory: str, count: int, builder: str, layers: list[tuple[str, int, str]]) -> dict[str, object]:
    """Read and write the layers in this process, as a builder does it."""
    cache, census = BlobCache(directory), Census("the image")
    contents = [
        Content(Descriptor(digest, size), diff_id, f"layer {digest}", cache, _Arrived())
        for digest, size, diff_id in layers
    ]
    with open("/dev/null", "wb", buffering=0) as target:
        archive = Archive(target)
        if builder == STREAM:
            indexes, written = write_foreseen(contents, (), archive, None, census)
            archive.finish(Union(indexes).entries(written))
        else:
            archive.finish(Union([indexed(content, census) for content in contents]).entries())
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu = used.ru_utime + used.ru_stime
    return {"entries": count, "builder": builder, "peak": used.ru_maxrss * 1024, "cpu": cpu}


if __name__ == "__main__":
    place, entries, way, stack = sys.argv[1:]
    _whole = pull  # all that a pull imports is in the memory of its process
    print(json.dumps(_cost(place, int(entries), way, json.loads(stack))))
