# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The outcome of a build: the inputs and the definition, before and after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..pull.outcome import PullOutcome
from .source import FREE


@dataclass
class BuildOutcome(PullOutcome):
    """The outcome of a build. Its difference is that of its inputs, and of the definition in the image."""

    inputs_before: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    text_before: str | None = None
    text: str | None = None

    def _details(self) -> dict[str, Any]:
        return {**super()._details(), "inputs": self.inputs or self.inputs_before}

    def _header(self) -> str:
        return str(self.path)

    def _facets(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the inputs and the definition before and after; each definition as a list of lines."""
        there = {"path": self.path_before} if self.path_before else {}
        inputs = self.inputs or self.inputs_before
        known = {name: value for name, value in self.inputs_before.items() if name in inputs or name not in FREE}
        before: dict[str, Any] = {**there, **known}
        after: dict[str, Any] = {"path": self.path, **inputs}
        if self.text is not None and self.text_before != self.text:
            after["text"] = self.text.splitlines()
            if self.text_before is not None:
                before["text"] = self.text_before.splitlines()
        return before, after
