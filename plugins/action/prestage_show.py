# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``prestage_show``: show lines as they are, however Ansible shows and writes results.

``debug`` shows nothing with ``display_ok_hosts=false``, and breaks rows of a table in YAML.
"""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ..plugin_utils._internal.display.output import is_machine_read

_OPTIONS: dict[str, dict[str, Any]] = {"lines": {"type": "list", "elements": "str", "required": True}}


class ActionModule(ActionBase):  # type: ignore[misc]
    """Show lines."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return a result that has the lines as well, for programs that read it."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validation, given = self.validate_argument_spec(_OPTIONS)
        if not is_machine_read():
            for line in given["lines"]:
                Display().display(line)
        return {**result, "changed": False, "lines": given["lines"]}
