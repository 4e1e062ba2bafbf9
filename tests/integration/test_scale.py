# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Many images, a large image, a large inventory."""

from __future__ import annotations

import http.client
import http.server
import json
import subprocess
import sys
import textwrap
import threading
import time
from typing import Any, ClassVar

from tests import lab
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
    assert [image["uri"] for image in result["images"]] == [f"{REGISTRY}/{name}:latest" for name in names]
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


class SlowRegistry(http.server.BaseHTTPRequestHandler):
    """Passes requests on to the plain registry, and counts how many are under way at once.

    It lets them wait until that are as many as are wanted, or will never be.
    """

    protocol_version = "HTTP/1.1"
    counting: ClassVar[threading.Lock] = threading.Lock()
    under_way: ClassVar[int] = 0
    most: ClassVar[int] = 0
    wanted: ClassVar[int] = 1

    def do_GET(self) -> None:
        """Serve GET and HEAD."""
        with SlowRegistry.counting:
            SlowRegistry.under_way += 1
            SlowRegistry.most = max(SlowRegistry.most, SlowRegistry.under_way)
        end = time.monotonic() + 60
        while SlowRegistry.most < SlowRegistry.wanted and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(0.05)
        origin = http.client.HTTPConnection(REGISTRY)
        origin.request(self.command, self.path, headers={"Accept": self.headers["Accept"]})
        answer = origin.getresponse()
        body = answer.read()
        with SlowRegistry.counting:
            SlowRegistry.under_way -= 1
        self.send_response(answer.status)
        for key in ("Content-Type", "Docker-Content-Digest", "Content-Length"):
            self.send_header(key, answer.headers[key] or "")
        self.end_headers()
        self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 (the name is http.server's)

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


def test_names_are_resolved_in_parallel(node1: Host) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), SlowRegistry) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        names = [f"127.0.0.1:{server.server_port}/lab/many{number:02}" for number in range(1, 31)]
        assert node1.sregistry("record", *names, threads=1)["changed"]
        assert SlowRegistry.most == 1
        SlowRegistry.wanted = 9
        assert not node1.sregistry("record", *names, threads=9)["changed"]
        server.shutdown()
    assert SlowRegistry.most == 9


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
