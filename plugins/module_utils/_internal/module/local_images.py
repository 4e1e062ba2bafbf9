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
from ..manage.outcome import ChangeOutcome
from .base import facts_after, failure


def finish_changes(
    module: AnsibleModule,
    inventory: Inventory,
    outcomes: Sequence[ChangeOutcome],
    changed: bool = False,
    diff: Sequence[dict[str, Any]] = (),
    error: SregistryError | None = None,
    **more: Any,
) -> None:
    """End the task with the outcome of each image; it fails if one did, with the results of all.

    :param changed: whether the task changed something beside the images; ``diff`` shows what.
    :param error: what went wrong beside the images.
    :param more: other return values.
    """
    names = [outcome.reference.uri if outcome.reference else outcome.name for outcome in outcomes]
    for name, outcome in zip(names, outcomes):
        for warning in outcome.warnings:
            module.warn(f"{name}: {warning}")
    different = [outcome for outcome in outcomes if outcome.changed]
    result: dict[str, Any] = {
        **more,
        "changed": changed or bool(different),
        "images": [outcome.to_result(outcome.name) for outcome in outcomes],
    }
    if module._diff:
        result["diff"] = [outcome.to_diff() for outcome in different] + list(diff)
    failed = [(name, outcome.error) for name, outcome in zip(names, outcomes) if outcome.error]
    if failed:
        module.fail_json(msg=failure(failed, len(outcomes), module.check_mode), **result)
    if error:
        module.fail_json(msg=str(error), **result)
    documents = [outcome.document for outcome in outcomes if outcome.document]
    module.exit_json(ansible_facts=facts_after(module, inventory, documents), **result)
