# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Work on one of several images, whose failure must not take the others' results with it."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import SregistryError
from ..secrecy import masked

FAILED = "failed"
"""The action of what failed."""


class Attempt:
    """Work that may fail; what was to be done is then not called done."""

    changed: bool
    action: str
    error: SregistryError | None
    traceback: str | None

    @contextmanager
    def catching(self) -> Iterator[None]:
        """Keep an error with the image that it belongs to."""
        try:
            yield
        except SregistryError as error:
            self.fail(error)
        except Exception as error:  # noqa: BLE001 (a fault of ours is one image's as well)
            self.traceback = masked(traceback.format_exc())
            why = masked(f"{type(error).__name__}: {error}")
            self.fail(SregistryError(f"internal error, {why}; please report it with the image's name"))

    @property
    def failure(self) -> dict[str, str]:
        """What a result says of an error: nothing where there is none."""
        told = {"error": str(self.error)} if self.error else {}
        return {**told, "traceback": self.traceback} if self.traceback else told

    def fail(self, error: SregistryError) -> None:
        """Note that the work failed, and why."""
        self.error, self.changed, self.action = error, False, FAILED
