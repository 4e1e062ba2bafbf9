# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An Ansible callback that writes what became of images on each host, as lines of JSON, to $IMAGE_ACTIONS_FILE."""

from __future__ import annotations

DOCUMENTATION = r"""
name: image_actions
type: aggregate
short_description: Write what became of images
description:
  - Appends one line of JSON for each host and each task that returned C(images), ran a command, or failed, to the
    file that E(IMAGE_ACTIONS_FILE) names.
requirements:
  - to be listed in C(callbacks_enabled)
"""

import json
import os
from typing import Any

from ansible.plugins.callback import CallbackBase


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """Keeps of each result what a measurement needs."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "image_actions"
    CALLBACK_NEEDS_ENABLED = True

    def v2_runner_on_ok(self, result: Any) -> None:
        """A task that ended well."""
        self._write(result, failed=False)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """A task that failed."""
        self._write(result, failed=True)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """A host that does not answer."""
        self._write(result, failed=True)

    def _write(self, result: Any, failed: bool) -> None:
        images = result.result.get("images", [])
        if "cmd" in result.result:  # apptainer itself
            changed = result.result["changed"]
            images = [{"changed": changed, "builder": "apptainer" if changed else None}]
        if not images and not failed:
            return
        keys = ("action", "changed", "sif_cache", "builder", "path", "size", "seconds", "error")
        line = {
            "host": result.host.get_name(),
            "failed": failed,
            "error": str(result.result.get("msg", "")) if failed else "",
            "images": [{key: image.get(key) for key in keys} for image in images],
        }
        with open(os.environ["IMAGE_ACTIONS_FILE"], "a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
