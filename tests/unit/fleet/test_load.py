# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The most that a registry did in one second."""

from __future__ import annotations

import contextlib
import os
import random
import socket
from pathlib import Path

import pytest

from tests.fleet import load
from tests.fleet.load import Look, Watch


def looks(*written: int, every: float = 0.2) -> list[Look]:
    return [Look(number * every, number * 0.1, number % 3, each, 0) for number, each in enumerate(written)]


@pytest.mark.parametrize(
    ("written", "peak"),
    [
        ((0, 0), 0),
        ((0, 100), 100),  # in less than a second it may have been more, but that is chance
        ((0, 100, 200, 300, 400, 500), 500),
        ((0, 0, 0, 0, 0, 0, 900, 900, 900, 900, 900, 900), 900),
        ((0, 100, 200, 300, 400, 500, 600, 700, 800, 900), 500),
    ],
)
def test_a_peak_is_that_of_a_second(written: tuple[int, ...], peak: float) -> None:
    found = Watch({"store": looks(*written)}).load("store")
    assert found.peak_bytes == pytest.approx(peak)


def test_sums_and_the_most_connections() -> None:
    found = Watch({"store": looks(0, 0, 0, 0, 0, 0)}).load("store")
    assert found.peak_connections == 2
    assert found.cpu == pytest.approx(0.5)
    assert found.peak_cpu == pytest.approx(0.5)


def server_of_its_own() -> socket.socket:
    """Open a server at a port that no connection of another process gets as its own end (ip(7))."""
    for port in random.sample(range(20000, 30000), 100):
        with contextlib.suppress(OSError):
            return socket.create_server(("127.0.0.1", port))
    raise OSError("none of a hundred ports is free")


def test_a_process_is_watched(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    log.write_text("one\n")
    with server_of_its_own() as server:
        port = server.getsockname()[1]
        watched = load.Watched(os.getpid(), port, log, since=log.stat().st_size)
        with socket.create_connection(("127.0.0.1", port)) as client, load.watching({"here": watched}) as watch:
            with log.open("a") as stream:
                stream.write("two\nthree\n")
            client.sendall(b"hello")
    found = watch.load("here")
    assert watch.looks["here"][-1].requests == 2
    assert found.peak_connections == 1
    assert found.peak_bytes > 0
