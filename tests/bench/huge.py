# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The large image: killed while its largest layer comes, killed while it is packed, and then brought to its end.

There is no comparison: ``apptainer pull`` would need an hour and 100 GB for it. What is said here of the progress is
what the module itself tells who watches it.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.bench import contenders, node
from tests.lab import paths
from tests.measure import images, machine
from tests.measure.command import DOCS, Failed, say
from tests.measure.figures import GIGABYTE, MEGABYTE, decimal
from tests.measure.table import Table

State = dict[str, Any]

_PAUSE = 0.5  # seconds between two looks
_FETCHED, _READ = 0.5, 0.6  # parts of all, at which the runs are killed
_DIRECTORY = f"{node.BENCH}/huge"
_PROGRESS = f"{_DIRECTORY}/progress"
_ENVIRONMENT = {
    "APPTAINER_CACHEDIR": f"{_DIRECTORY}/cache",
    "SREGISTRY_STORAGE": f"{_DIRECTORY}/store",
    "SREGISTRY_PROGRESS_FILE": _PROGRESS,
}

_PAGE = """# A large image

An image of {gigabytes} GB in {layers} layers, as of machine learning: one file of 9 GB in a layer of 8 GB,
63 files of 64 MiB, and 300,000 small ones. `make bench IMAGES={name}` pulls it three times: the first run is killed
(`kill -9`) when half of it is there, the second one when it has read more than half of it to pack it, and the third one
makes the file.

{table}

- What had come before the first kill was continued. In all, the registry sent {again} MB more than the image has: what
  was on its way, and ahead in ranges.
- What a killed run had packed is packed anew. Its temporary file is removed by a later run, a minute or more after it
  was last changed.
- The progress that `sregistry_pull` tells never went back, and never beyond what there was to do; else the benchmark
  fails.
- The cache and the file need as much room as the image, each. That there is so much is checked before anything is
  fetched.

Measured on {day}: {host}; {commit}. Registry and host are on the same machine, so the network costs
nothing here. There is no comparison with `apptainer pull`, which would need an hour and 100 GB.
"""


@dataclass
class Run:
    """One run: what ``meter.py`` says, the states of its progress, and the bytes in the cache after it."""

    title: str
    figures: dict[str, Any] = field(default_factory=dict)
    states: list[State] = field(default_factory=list)
    kept: int = 0
    printed: str = ""


@dataclass(frozen=True)
class Measured:
    """The three runs of an image of so many bytes; ``sent`` is what the registry sent for them, in bytes."""

    name: str
    size: int
    layers: int
    runs: tuple[Run, Run, Run]
    sent: int

    @property
    def again(self) -> int:
        """Bytes that the registry sent more than once."""
        return max(0, self.sent - self.size)


def measure(name: str) -> Measured:
    """Run it on the host of the benchmark, where ``node.prepare`` was.

    :raises Failed: if a run ends otherwise than it should, or its progress tells what is not true.
    """
    image = images.reference(name)
    _digest, layers = images.manifest(image)
    size = sum(layers.values())
    node.shell(f"rm -rf {_DIRECTORY}; mkdir {_DIRECTORY}")
    module = _module(image)
    log = paths.logs() / "registry-plain.log"
    before = log.stat().st_size
    fetching = _run("killed while the largest layer comes", module, lambda state: state["fetched"] > _FETCHED * size)
    if fetching.states[-1]["to_fetch"] != size:
        raise Failed(f"the progress told of {fetching.states[-1]['to_fetch']} bytes to fetch, of {size}")
    packing = _run("continued, killed while it is packed", module, lambda state: _is_packing(state, size))
    ended = _run("continued to its end", module, None)
    (result,) = json.loads(ended.printed)["images"]
    if result["action"] != "pulled":
        raise Failed(f"the action is {result['action']} where pulled was expected")
    with open(log, "rb") as stream:
        stream.seek(before)
        came = sent(stream.read().decode(errors="replace"), f"bench/{name}")
    return Measured(name, size, len(layers), (fetching, packing, ended), came)


def markdown(measured: Measured) -> str:
    """Return the page of the documentation."""
    rows = [
        (
            run.title,
            decimal(run.figures["seconds"]),
            decimal(run.figures["cpu_seconds"]),
            f"{run.figures['own_memory'] / MEGABYTE:.0f}",
            f"{run.figures['memory'] / MEGABYTE:.0f}",
            f"{run.kept / GIGABYTE:.2f}",
        )
        for run in measured.runs
    ]
    heads = ("run", "seconds", "CPU s", "MB, our process", "MB, with the packer", "GB in the cache after it")
    host = machine.machine(node.HOST)
    return _PAGE.format(
        name=measured.name,
        gigabytes=decimal(measured.size / GIGABYTE),
        layers=measured.layers,
        day=time.strftime("%Y-%m-%d"),
        again=f"{measured.again / MEGABYTE:.0f}",
        table=Table(heads, rows).markdown(),
        host=", ".join(f"{key} {host[key]}" for key in ("processor", "memory", "file system", "Python of the host")),
        commit=host["hpc.sregistry"],
    )


def run(name: str) -> None:
    """Make the image if it is missing, measure, and write the page if it is the whole one."""
    say("Bringing up the lab and making the image if it is missing, which needs 12 GB there and 25 GB on the host")
    with node.ready([images.reference(name)]):
        page = markdown(measure(name))
    print(page)
    if name == images.HUGE[0]:
        (DOCS / "large-image.md").write_text(page, encoding="utf-8")


def check(states: list[State]) -> None:
    """Check that a progress never goes back, and never beyond what it says that there is.

    :raises Failed: if it does.
    """
    for key, whole in (("fetched", "to_fetch"), ("read", "to_read")):
        counts = [state[key] for state in states]
        if counts != sorted(counts):
            raise Failed(f"the progress went back: {key} {counts}")
        if beyond := [state for state in states if state[whole] is not None and state[key] > state[whole]]:
            raise Failed(f"the progress tells of more than there is: {beyond[0]}")


def sent(log: str, repository: str) -> int:
    """Return the bytes of blobs of a repository that a registry sent, by the lines of its log."""
    answers = re.findall(rf'"GET /v2/{repository}/blobs/\S+ HTTP/1\.1" 20[06] (\d+) ', log)
    return sum(map(int, answers))


def _is_packing(state: State, size: int) -> bool:
    return bool(state["fetched"] == state["to_fetch"] and state["read"] > _READ * size)


def _module(image: str) -> str:
    """Return the very file that Ansible sends and starts, kept on the host by a run that cannot write there."""
    modules = f"{_DIRECTORY}/modules"
    node.shell(f"mkdir -p {modules}")
    task = {"hpc.sregistry.sregistry_pull": {"name": [f"{contenders.REGISTRY}/{image}"], "no_https": True}}
    nowhere = {"APPTAINER_CACHEDIR": "/dev/null/cache", "SREGISTRY_STORAGE": "/dev/null/store"}
    try:
        node.play(task, nowhere, ANSIBLE_KEEP_REMOTE_FILES="1", ANSIBLE_REMOTE_TMP=modules)
    except Failed:
        return node.shell(f"ls -d {modules}/*/AnsiballZ_sregistry_pull.py").strip()
    raise Failed("a run that could not write ended well")


def _run(title: str, module: str, kills: Callable[[State], bool] | None) -> Run:
    """Run the module, and kill it in the state that is asked for."""
    say(f"  {title}")
    run = Run(title)
    command = f"{node.exports(_ENVIRONMENT)}echo $$ > {_DIRECTORY}/pid; exec python3 {module}"
    task = {"reset": "true", "command": command, "output": f"{_DIRECTORY}/store", "log": f"{node.BENCH}/log"}

    def work() -> None:
        run.figures = json.loads(node.shell(f"python3 {node.BENCH}/meter.py", json.dumps(task)))

    thread = threading.Thread(target=work)
    thread.start()
    killed = False
    while thread.is_alive():
        time.sleep(_PAUSE)
        text = node.shell(f"cat {_PROGRESS} 2> /dev/null || true")
        if not text or killed:
            continue
        run.states.append(json.loads(text))
        if kills and kills(run.states[-1]):
            node.shell(f"kill -9 $(cat {_DIRECTORY}/pid)")
            killed = True
    thread.join()
    run.printed = node.shell(f"cat {node.BENCH}/log.out")
    if run.figures.get("status") != (-9 if kills else 0):
        raise Failed(f"{title}: it ended with {run.figures.get('status')}: {run.printed[-2000:]}")
    check(run.states)
    sizes = node.shell(f"find {_DIRECTORY}/cache -type f -links 1 -printf '%s '").split()
    run.kept = sum(map(int, sizes))
    node.shell(f"rm -f {_PROGRESS}")
    return run
