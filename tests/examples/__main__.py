# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m tests.examples`` writes docs/examples.md."""

from __future__ import annotations

from tests.examples.page import write

if __name__ == "__main__":
    write()
