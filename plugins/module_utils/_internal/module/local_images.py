# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A task about images that are on the host already: its result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..errors import SregistryError
from ..inventory.database import Inventory
from ..manage.outcome import Change
from .base import facts_after, failure


def finish(
    module: AnsibleModule,
    inventory: Inventory,
    changes: Sequence[Change],
    changed: bool = False,
    diff: Sequence[dict[str, Any]] = (),
    error: SregistryError | None = None,
    **more: Any,
) -> None:
    """End the task with what became of each image; it fails if one did, with the results of all.

    :param changed: whether the task changed something beside the images; ``diff`` shows what.
    :param error: what went wrong beside the images.
    :param more: other return values.
    """
    for change in changes:
        for warning in change.warnings:
            module.warn(f"{change.uri or change.name}: {warning}")
    different = [change for change in changes if change.changed]
    result: dict[str, Any] = {
        **more,
        "changed": changed or bool(different),
        "images": [change.to_result() for change in changes],
    }
    if module._diff:
        result["diff"] = [change.to_diff() for change in different] + list(diff)
    failed = [(change.uri or change.name, change.error) for change in changes if change.error]
    if failed:
        module.fail_json(msg=failure(failed, len(changes), module.check_mode), **result)
    if error:
        module.fail_json(msg=str(error), **result)
    documents = [change.document for change in changes if change.document]
    module.exit_json(ansible_facts=facts_after(module, inventory, documents), **result)
