# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Many images, a large image, a large inventory."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from typing import Any

from tests import lab
from tests.faults import Answer, FaultyRegistry, Request
from tests.lab.inventories import FILL

from .conftest import REGISTRY, Host

# Written on the host: each Python process that has it on its path leaves its peak memory in KiB.
METER = """
    import atexit, os
    def leave():
        peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
        with open(f"/tmp/meter/{os.getpid()}", "w") as stream:
            stream.write(peak)
    atexit.register(leave)
"""


def metered(host: Host, action: str, *names: str, **arguments: Any) -> tuple[dict[str, Any], int]:
    """Run a module; also returns the peak memory of its process in KiB."""
    script = "rm -rf /tmp/meter; mkdir -p /tmp/meter/path; cat > /tmp/meter/path/sitecustomize.py <<'END'\n"
    host.shell(script + textwrap.dedent(METER) + "END\n")
    result = host.sregistry(action, *names, env={"PYTHONPATH": "/tmp/meter/path"}, **arguments)
    peaks = host.shell("cd /tmp/meter; for f in [0-9]*; do cat $f; echo; done").stdout.split()
    return result, max(map(int, peaks))


def test_thirty_images_in_one_task_fetch_a_shared_layer_once(node1: Host) -> None:
    names = [f"lab/many{number:02}" for number in range(1, 31)]
    offset = lab.log_offset("plain")
    result = node1.sregistry("pull", *names)
    assert [image["action"] for image in result["images"]] == ["pulled"] * 30
    assert [image["reference"] for image in result["images"]] == [f"{REGISTRY}/{name}:latest" for name in names]
    blobs = [
        request.path.split("/")[-1]
        for request in lab.requests_of("plain", since=offset)
        if "/lab/many" in request.path and "/blobs/" in request.path and request.method == "GET"
    ]
    assert len(blobs) == len(set(blobs)), "a blob was fetched twice"
    documents = [
        json.loads(node1.shell(f"cat ~/.singularity/shub/.sregistry/images/*many{n:02}*").stdout) for n in (1, 10, 11)
    ]
    layers = [{layer["digest"] for layer in document["layers"]} for document in documents]
    shared = (layers[0] & layers[1]) - layers[2]
    assert len(shared) == 1
    assert blobs.count(shared.pop()) == 1
    offset = lab.log_offset("plain")
    assert not node1.sregistry("pull", *names)["changed"]
    asked = [request.method for request in lab.requests_of("plain", since=offset) if "/lab/many" in request.path]
    assert asked == ["HEAD"] * 30


class Crowd:
    """Count the requests that are under way at once; they wait until these were as many as are wanted."""

    def __init__(self) -> None:
        self._counting = threading.Condition()
        self._under_way = self.most = 0
        self.wanted = 1

    def __call__(self, request: Request, upstream: Callable[[Request], Answer]) -> Answer:
        """Answer as the real registry does."""
        with self._counting:
            self._under_way += 1
            self.most = max(self.most, self._under_way)
            self._counting.notify_all()
            self._counting.wait_for(lambda: self.most >= self.wanted, timeout=60)
        time.sleep(0.05)
        try:
            return upstream(request)
        finally:
            with self._counting:
                self._under_way -= 1


def test_names_are_resolved_in_parallel(node1: Host) -> None:
    crowd = Crowd()
    with FaultyRegistry(f"http://{REGISTRY}") as registry:
        registry.when("", crowd)
        names = [f"{registry.address}/lab/many{number:02}" for number in range(1, 31)]
        assert node1.sregistry("record", *names, threads=1)["changed"]
        assert crowd.most == 1
        crowd.wanted = 9
        assert not node1.sregistry("record", *names, threads=9)["changed"]
    assert crowd.most == 9


def test_the_module_stays_small_with_a_large_image(node1: Host) -> None:
    subprocess.run([sys.executable, "-m", "tests.lab", "images", "lab/large"], check=True, stdout=subprocess.DEVNULL)
    result, peak = metered(node1, "pull", "lab/large")
    assert result["changed"], result
    assert result["images"][0]["size"] > 1_300_000_000
    print(f"peak memory of the module: {peak / 1024:.0f} MiB with an image of 1.5 GB")
    assert peak < 150 * 1024
    node1.shell("rm -rf ~/.singularity ~/.apptainer")


def test_an_inventory_of_ten_thousand(node1: Host) -> None:
    node1.sregistry("record", "lab/tiny", database="/root/sif/inventory")
    node1.shell(f"python3 - <<'END'\n{FILL.format(inventory='/root/sif/inventory', count=10_000)}END\n")
    everything = node1.sregistry("facts", database="/root/sif/inventory")["ansible_facts"]["sregistry"]
    assert (len(everything["images"]), everything["complete"]) == (10001, True)
    own = node1.sregistry("record", "lab/many01", database="/root/sif/inventory")["ansible_facts"]["sregistry"]
    assert ([row["name"] for row in own["images"]], own["complete"]) == (["many01"], False)
    everything = node1.sregistry("record", "lab/many01", database="/root/sif/inventory", gather="all")
    assert len(everything["ansible_facts"]["sregistry"]["images"]) == 10002
