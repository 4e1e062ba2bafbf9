# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An Ansible callback that writes the result of each task, as a line of JSON, to $TASK_RESULTS_FILE."""

from __future__ import annotations

DOCUMENTATION = r"""
name: task_results
type: aggregate
short_description: Write the results of tasks
description:
  - Appends the result of each task, as a line of JSON, to the file that E(TASK_RESULTS_FILE) names.
"""

import json
import os
from typing import Any

from ansible.plugins.callback import CallbackBase


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """Keeps what a variable would hold that the task registers."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "task_results"
    CALLBACK_NEEDS_ENABLED = False

    def v2_runner_on_ok(self, result: Any) -> None:
        """Note a task that ended well."""
        self._write(result, failed=False)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """Note a task that failed."""
        self._write(result, failed=True)

    def v2_runner_on_skipped(self, result: Any) -> None:
        """Note a task that did nothing, such as a command in check mode."""
        self._write(result, failed=False)

    def _write(self, result: Any, failed: bool) -> None:
        values = result.result if hasattr(result, "result") else result._result  # before ansible-core 2.19
        line = {"changed": False, **values, "failed": failed}
        with open(os.environ["TASK_RESULTS_FILE"], "a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
