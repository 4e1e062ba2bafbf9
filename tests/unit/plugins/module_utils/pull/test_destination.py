# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A run that wants what another has in hand waits for it, and says so."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, cast

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.inventory.database import Inventory
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.inventory.holding import hold_all
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.platform import Platform
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.reference import Reference
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.pull.destination import lock_destination
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.pull.outcome import PullOutcome
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.pull.session import Session

AMD64 = Platform("linux", "amd64")
IMAGE, OTHER = Reference.parse("org/app:1"), Reference.parse("org/other:1")
PATH = "/store/org/app-1.sif"
NONE = cast(Any, None)


@pytest.fixture
def session(tmp_path: Path) -> Session:
    """Return a run that reaches nothing but its inventory."""
    return Session(NONE, NONE, Inventory(str(tmp_path / "inventory")), AMD64, 1)


def seen(session: Session, step: str) -> bool:
    """Tell whether the run comes to a step, within a minute."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if session.progress.state()["step"] == step:
            return True
        time.sleep(0.005)
    return False


@pytest.mark.parametrize(
    "hold",
    [lambda inventory: inventory.locked(IMAGE, AMD64, 1), lambda inventory: inventory.locked_path(PATH, 1)],
    ids=["its image", "its file"],
)
def test_who_waits_for_another_run_says_so(
    session: Session, hold: Callable[[Inventory], AbstractContextManager[None]]
) -> None:
    outcome, had = PullOutcome(IMAGE, AMD64, progress=session.progress), threading.Event()

    def want() -> None:
        with lock_destination(session, outcome, PATH):
            had.set()

    thread = threading.Thread(target=want)
    with hold(session.inventory):
        thread.start()
        assert seen(session, "wait")
        assert not had.wait(0.05)
    thread.join(20)
    assert had.is_set()
    assert outcome.seconds["wait"] >= 0.05
    assert session.progress.state()["step"] == ""


def test_what_was_claimed_is_let_go_of_also_after_an_error(session: Session) -> None:
    with pytest.raises(ZeroDivisionError), lock_destination(session, PullOutcome(IMAGE, AMD64), PATH):
        raise ZeroDivisionError
    with hold_all(session.inventory, [PATH], [(IMAGE, AMD64)], 0):
        pass


def test_other_images_and_files_are_free_meanwhile(session: Session) -> None:
    with (
        lock_destination(session, PullOutcome(IMAGE, AMD64), PATH),
        hold_all(session.inventory, ["/store/org/other-1.sif"], [(OTHER, AMD64)], 0),
    ):
        pass
