# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""CPU seconds of a tree of processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.fleet import cpu

SECONDS = 0.3
BURN = f"import time\nwhile time.process_time() < {SECONDS}: pass"
CHILD = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BURN!r}], check=True)"


@pytest.fixture(params=[BURN, CHILD], ids=["itself", "a child that ended"])
def burning(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    """Start a process that burns a known time and waits."""
    code = f"{request.param}\nprint('done', flush=True)\ninput()"
    with subprocess.Popen(
        [sys.executable, "-S", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "done\n"
        yield process
        process.communicate("\n")


def test_what_ran_in_a_tree_is_counted(burning: subprocess.Popen[str]) -> None:
    used = cpu.seconds({"tree": burning.pid})["tree"]
    assert SECONDS * 0.9 <= used <= SECONDS + 0.5


def test_a_tree_holds_those_below_it(burning: subprocess.Popen[str]) -> None:
    used = cpu.seconds({"all": os.getpid(), "one": burning.pid})
    assert used["all"] > used["one"]


def test_a_process_that_ended_has_used_nothing() -> None:
    with subprocess.Popen([sys.executable, "-S", "-c", "pass"]) as process:
        process.wait()
    assert cpu.seconds({"gone": process.pid}) == {"gone": 0}
    assert cpu.process(process.pid) is None


def test_processes_are_found_by_what_they_were_started_with() -> None:
    mark = f"fleet-test-{os.getpid()}"
    with subprocess.Popen([sys.executable, "-S", "-c", "input()", mark], stdin=subprocess.PIPE) as process:
        try:
            # between fork and exec it still has the command line of this one
            while process.pid not in cpu.named(mark):
                assert process.poll() is None
            assert cpu.of_all(mark) < 5
        finally:
            process.communicate(b"\n")
    assert cpu.named(mark) == []
