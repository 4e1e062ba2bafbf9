# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A task about images that are on the host already: its result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..errors import SregistryError
from ..inventory.database import Inventory
from ..manage.outcome import ChangeOutcome
from .base import facts_after, failure


@dataclass
class BesideImages:
    """The rest of the result of a task: return values, and the differences and the error that are not of an image."""

    values: dict[str, Any] = field(default_factory=dict)
    diff: list[dict[str, Any]] = field(default_factory=list)
    error: SregistryError | None = None


def finish_changes(
    module: AnsibleModule,
    inventory: Inventory,
    outcomes: Sequence[ChangeOutcome],
    beside: BesideImages | None = None,
) -> None:
    """End the task with the outcome of each image; it fails if one did, with the results of all."""
    beside = beside or BesideImages()
    names = [outcome.reference.uri if outcome.reference else outcome.name for outcome in outcomes]
    for name, outcome in zip(names, outcomes):
        for warning in outcome.warnings:
            module.warn(f"{name}: {warning}")
    different = [outcome for outcome in outcomes if outcome.changed]
    result: dict[str, Any] = {
        **beside.values,
        "changed": bool(different or beside.diff),
        "images": [outcome.to_result(outcome.name) for outcome in outcomes],
    }
    if module._diff:
        result["diff"] = [outcome.to_diff() for outcome in different] + beside.diff
    failed = [(name, outcome.error) for name, outcome in zip(names, outcomes) if outcome.error]
    if failed:
        module.fail_json(msg=failure(failed, len(outcomes), module.check_mode), **result)
    if beside.error:
        module.fail_json(msg=str(beside.error), **result)
    documents = [outcome.document for outcome in outcomes if outcome.document]
    module.exit_json(ansible_facts=facts_after(module, inventory, documents), **result)
