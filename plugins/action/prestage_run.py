# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``prestage_run``: run a module on those hosts of a play whose turn it is.

The keyword ``when`` would do, if there were not ``run_once``: where no host has to do anything, one line must say so,
not one for each. Before ansible-core 2.19, a host that ``when`` skips takes a template in ``run_once`` for true,
whatever it means, and registers its result for all hosts. A task that runs does not.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase

from ..plugin_utils._internal.prestage.host import sees_all
from ..plugin_utils._internal.prestage.leader import Group
from ..plugin_utils._internal.prestage.result import StoreResult

_OPTIONS: dict[str, dict[str, Any]] = {
    "module": {"type": "str", "required": True},
    "needed": {"type": "bool", "required": True},
    "options": {"type": "dict", "default": {}},
    "sees": {"type": "dict", "options": {"names": {"type": "list", "elements": "str"}, "group": {"type": "dict"}}},
    "within": {"type": "int", "default": 0},
    "use": {"type": "str", "default": ""},
}
_INTERVAL = 5.0  # seconds between two looks


class ActionModule(ActionBase):  # type: ignore[misc]
    """Run a module, or nothing."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the result of the module, or one that says ``skipped`` or ``unreachable``."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validation, given = self.validate_argument_spec(_OPTIONS)
        mark = {"use": given["use"]} if given["use"] else {}
        if not given["needed"]:
            return {**result, **mark, "changed": False, "skipped": True, "skip_reason": "nothing to do on this host"}
        variables = task_vars or {}
        # Before ansible-core 2.19, what is left out inside of a dictionary is still there.
        options = {name: value for name, value in given["options"].items() if value != variables.get("omit", self)}
        try:
            if given["sees"] is None:
                return {**self._run(given["module"], options, variables), **mark}
            return {**self._look(given, options, variables), **mark}
        except AnsibleConnectionFailure as error:
            return {**result, **mark, "changed": False, "unreachable": True, "msg": str(error)}

    def _look(self, given: Mapping[str, Any], options: Mapping[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        """Run the module again until the host sees what another one has put onto the file system that they share."""
        names, group, check = given["sees"]["names"], Group.of(given["sees"]["group"]), bool(self._task.check_mode)
        end = time.monotonic() + given["within"]
        while True:
            found = self._run(given["module"], options, variables)
            seen = sees_all(names, group, StoreResult.of(found))
            if check:
                found.pop("warnings", None)  # a dry run needs no warning that there is nothing yet
            if seen or check or time.monotonic() + _INTERVAL > end:
                break
            time.sleep(_INTERVAL)
        if seen or "images" not in found:
            return found
        # The other files of its inventory tell whether it is the same file system.
        stores = {name: options[name] for name in ("storage", "database") if name in options}
        facts = self._run("hpc.sregistry.sregistry_facts", stores, variables)
        return {**found, "ansible_facts": facts.get("ansible_facts", {})}

    def _run(self, module: str, options: Mapping[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        """Run a module as a task of its own would, with the action plugin that it may have."""
        task = self._task.copy()
        task.action, task.args = module, dict(options)
        loader = self._shared_loader_obj.action_loader
        action = loader.get(
            module if loader.has_plugin(module) else "ansible.legacy.normal",
            task=task,
            connection=self._connection,
            play_context=self._play_context,
            loader=self._loader,
            templar=self._templar,
            shared_loader_obj=self._shared_loader_obj,
        )
        return dict(action.run(task_vars=variables))
