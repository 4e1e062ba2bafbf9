# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An Ansible callback that writes what became of each task on each host, as lines of JSON, to $TASK_RESULTS_FILE."""

from __future__ import annotations

DOCUMENTATION = r"""
name: task_results
type: aggregate
short_description: Write what became of tasks
description:
  - Appends one line of JSON for each task and host to the file that E(TASK_RESULTS_FILE) names.
requirements:
  - to be listed in C(callbacks_enabled)
"""

import json
import os
import time
from typing import Any

from ansible.plugins.callback import CallbackBase


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """Keeps of each result what measurements need.

    ``seconds`` is the time from the start of the task to its result, as the controller sees them; ``images`` says who
    built each image that the task returned (nobody where that is None), whether it changed, and its bytes.
    """

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "task_results"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._begin: dict[str, float] = {}

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """Remember when the task started."""
        self._begin[task._uuid] = time.perf_counter()

    def v2_runner_on_ok(self, result: Any) -> None:
        """Note a task that ended well."""
        self._write(result, failed=False)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """Note a task that failed."""
        self._write(result, failed=True)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """Note a host that does not answer."""
        self._write(result, failed=True)

    def _write(self, result: Any, failed: bool) -> None:
        seconds = time.perf_counter() - self._begin[result.task._uuid]
        changed, images = result.result.get("changed", False), result.result.get("images", [])
        if "cmd" in result.result:  # apptainer itself
            images = [{"changed": changed, "builder": "apptainer" if changed else None}]
        line = {
            "host": result.host.get_name(),
            "seconds": seconds,
            "changed": changed,
            "failed": failed,
            "error": str(result.result.get("msg", "")) if failed else "",
            "images": [{key: image.get(key) for key in ("builder", "changed", "size")} for image in images],
        }
        with open(os.environ["TASK_RESULTS_FILE"], "a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
