# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An Ansible callback that writes how long each task took, as lines of JSON, to the file $TASK_SECONDS_FILE."""

from __future__ import annotations

DOCUMENTATION = r"""
name: task_seconds
type: aggregate
short_description: Write how long each task took
description:
  - Appends one line of JSON for each task and host to the file that E(TASK_SECONDS_FILE) names.
requirements:
  - to be listed in C(callbacks_enabled)
"""

import json
import os
import time
from typing import Any

from ansible.plugins.callback import CallbackBase


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """Takes the time between the start of a task on a host and its result, as the controller sees them."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "task_seconds"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._begin: dict[str, float] = {}

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """Remember when the task started."""
        self._begin[task._uuid] = time.perf_counter()

    def v2_runner_on_ok(self, result: Any) -> None:
        """Write how long it took."""
        seconds = time.perf_counter() - self._begin[result.task._uuid]
        line = {"task": result.task.get_name(), "seconds": seconds, "changed": result.result.get("changed", False)}
        with open(os.environ["TASK_SECONDS_FILE"], "a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
