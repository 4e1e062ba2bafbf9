# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``prestage_probe``: what a host must have, and what it says of itself, in one task, which Ansible shows as one line.

It asks by the shell. The module ``setup`` takes each host a third of a second of a processor, as much as a fetch of a
small image.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase

from ..plugin_utils._internal.prestage.probe import ProbeScript, group_of, parse_answer

_OPTIONS: dict[str, dict[str, Any]] = {
    "names": {"type": "list", "elements": "str", "required": True},
    "use": {"type": "str", "required": True},
    "store": {"type": "str", "default": ""},
    "clean": {"type": "bool", "default": False},
    "grouped": {"type": "bool", "default": False},
    "content": {"type": "list", "elements": "raw", "default": []},
    "platform": {"type": "str", "default": ""},
    "engine": {"type": "bool", "default": False},
    "engine_path": {"type": "str", "default": ""},
    "mount": {"type": "str", "default": ""},
}


class ActionModule(ActionBase):  # type: ignore[misc]
    """Ask the host what has to be known, and return that with what it must have."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the answers. It never fails: the report at the end names the hosts that cannot be reached."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validation, given = self.validate_argument_spec(_OPTIONS)
        script = ProbeScript(
            mount=given["mount"],
            architecture=given["grouped"] and not given["platform"],
            engine=given["grouped"] and given["engine"],
            program=given["engine_path"],
        )
        try:
            said = self._low_level_execute_command(script.text)["stdout"] if script.text else ""
        except AnsibleConnectionFailure as error:
            return {**result, **self._base(given), "obstacle": {"unreachable": True, "msg": str(error)}}
        answer = parse_answer(str(said))
        obstacle = script.obstacle(answer)
        if obstacle:
            return {**result, **self._base(given), "obstacle": {"msg": obstacle}}
        platform = given["platform"] or answer.get("architecture", "")
        engine = answer["engine"] if script.engine else ""
        group = group_of(platform, engine, given["content"]) if given["grouped"] else ""
        return {**result, **self._base(given), "group": group}

    @staticmethod
    def _base(given: Mapping[str, Any]) -> dict[str, Any]:
        kept = {name: given[name] for name in ("names", "use", "store", "clean")}
        return {**kept, "group": "", "obstacle": {}, "time": time.time(), "changed": False}
