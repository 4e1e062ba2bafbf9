# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast each decoder that is here inflates one large gzip layer: ``make bench ARGS=inflate``.

Each run is a process of its own, in turn with those of the others. CPU time holds also on a busy machine, and the least
of all runs counts. What the library did before it had several decoders is ``isal`` and the checksum in one thread.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import sys
import time
import zlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ansible_collections.hpc.sregistry.plugins.module_utils._internal.layers import inflate
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.layers.compression import decompressed

from tests import lab
from tests.lab import laboratory, paths
from tests.measure import images
from tests.measure.command import Failed, in_own_process, say
from tests.measure.table import Table

IMAGE = "single"
BEFORE = "isal, and SHA-256 in its thread"
MIB = 1024 * 1024


@dataclass(frozen=True)
class Inflation:
    """One run: seconds, CPU seconds of all its processes, the largest of them in bytes, and what it gave."""

    seconds: float
    cpu: float
    peak: int
    bytes: int


@dataclass(frozen=True)
class Way:
    """One way to inflate: the decoder, how many processors it may use, whether its thread hashes as well."""

    decoder: str
    processors: int = 1
    hashes: bool = False

    @property
    def title(self) -> str:
        """What it is called in the table."""
        return (
            BEFORE if self.hashes else self.decoder + (f", {self.processors} processors" if self.processors > 1 else "")
        )


def ways() -> list[Way]:
    """Return the ways that can be taken here, the one of before first."""
    has_isal, processors = find_spec("isal") is not None, len(os.sched_getaffinity(0))
    found = [Way("isal", hashes=True), Way("isal")] if has_isal else []
    if find_spec("rapidgzip"):
        found += [Way("rapidgzip", count) for count in (2, 4) if count <= processors]
    return [*found, *([Way("igzip")] if shutil.which("igzip") else []), Way("zlib")]


def run(runs: int) -> str:
    """Measure all ways in turn, and return the table.

    :raises Failed: if a way is not taken.
    """
    say("Bringing up the lab and making the image, which may take some minutes")
    lab.up(host_count=1)
    laboratory.push_images([images.reference(IMAGE)])
    _manifest, layers = images.manifest(images.reference(IMAGE))
    digest = max(layers, key=lambda each: layers[each])
    return measure(_blob(digest), runs)


def measure(layer: Path, runs: int) -> str:
    """Measure all ways on one layer in turn, and return the table.

    :raises Failed: if a way is not taken.
    """
    samples: dict[Way, list[Inflation]] = {way: [] for way in ways()}
    for number in range(1, runs + 1):
        for way, taken in samples.items():
            taken.append(_inflation(way, layer))
            say(f"  {number}/{runs}  {way.title:<32} {taken[-1].seconds:6.2f} s  CPU {taken[-1].cpu:6.2f} s")
    least = {way: min(each.seconds for each in taken) for way, taken in samples.items()}
    before = next(iter(least.values()))
    columns = (
        ("decoder", lambda way: way.title),
        ("seconds", lambda way: f"{least[way]:.2f}"),
        ("CPU seconds", lambda way: f"{min(each.cpu for each in samples[way]):.2f}"),
        ("MB/s", lambda way: f"{samples[way][0].bytes / least[way] / 1e6:.0f}"),
        (f"against {next(iter(least)).title}", lambda way: f"{before / least[way]:.2f} x"),
        ("peak MiB", lambda way: f"{max(each.peak for each in samples[way]) / MIB:.0f}"),
    )
    return f"{layer.stat().st_size / 1e6:.0f} MB of gzip\n\n{Table.of(samples, *columns).text()}"


def _blob(digest: str) -> Path:
    """Return the file of a blob in the lab's storage."""
    kind, _colon, name = digest.partition(":")
    return paths.storage() / "docker" / "registry" / "v2" / "blobs" / kind / name[:2] / name / "data"


def _inflation(way: Way, layer: Path) -> Inflation:
    """Inflate once in a process of its own."""
    told = in_own_process(__name__, layer, way.decoder, way.processors, int(way.hashes))
    if told.pop("decoders") != [way.decoder]:
        raise Failed(f"{way.title} did not inflate {layer}")
    return Inflation(**told)


def _inflate(layer: Path, way: Way) -> dict[str, object]:
    """Inflate in this process, by one decoder and no other."""
    inflate._WORTH_PROCESSORS = 0 if way.decoder == "rapidgzip" else sys.maxsize
    inflate._WORTH_A_PROGRAM = 0 if way.decoder == "igzip" else sys.maxsize
    if way.decoder in ("zlib", "igzip"):
        inflate._gzip_module = zlib
    hasher, count, work = hashlib.sha256(), 0, []  # type: ignore[var-annotated]
    begin = time.monotonic()
    with decompressed(layer.open("rb"), layer, way.processors, work) as stream:
        while data := stream.read(MIB):
            count += len(data)
            if way.hashes:
                hasher.update(data)
    seconds = time.monotonic() - begin
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {
        "seconds": seconds,
        "cpu": sum(each.ru_utime + each.ru_stime for each in used),
        "peak": max(each.ru_maxrss for each in used) * 1024,
        "bytes": count,
        "decoders": [each.decoder for each in work],
    }


if __name__ == "__main__":
    file, decoder, processors, hashes = sys.argv[1:]
    print(json.dumps(_inflate(Path(file), Way(decoder, int(processors), hashes == "1"))))
