# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An Ansible callback that writes what became of each task of each play, as lines of JSON, to $EXAMPLE_RESULTS_FILE."""

from __future__ import annotations

DOCUMENTATION = r"""
name: example_results
type: aggregate
short_description: Write what became of tasks, and in which play
description:
  - Appends one line of JSON for each task and host to the file that E(EXAMPLE_RESULTS_FILE) names.
requirements:
  - to be listed in C(callbacks_enabled)
"""

import json
import os
from typing import Any

from ansible.plugins.callback import CallbackBase

_PARTS = ("task", "host", "result")


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """Keeps of each result what tells whether an example works, and whether it changes anything."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "example_results"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._play = ""

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """Remember the play to which the results that follow belong; an example knows nothing of those before it."""
        if play.get_name().split(" | ")[0] != self._play.split(" | ")[0]:
            play.get_variable_manager()._nonpersistent_fact_cache.clear()  # what tasks registered
        self._play = play.get_name()

    def v2_runner_on_ok(self, result: Any) -> None:
        """Note a task that ended well."""
        self._write(result, failed=False)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """Note a task that failed."""
        self._write(result, failed=not ignore_errors)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """Note a host that does not answer."""
        self._write(result, failed=True)

    def _write(self, result: Any, failed: bool) -> None:
        # Before ansible-core 2.19, these have only their private names.
        task, host, values = (getattr(result, name if hasattr(result, name) else f"_{name}") for name in _PARTS)
        line = {
            "play": self._play,
            "task": task.name,
            "host": host.get_name(),
            "changed": bool(values.get("changed")),
            "failed": failed,
            "error": json.dumps(values, default=str)[:3000] if failed else "",
        }
        with open(os.environ["EXAMPLE_RESULTS_FILE"], "a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
