# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures in writing: as many digits as somebody reads."""

from __future__ import annotations

KILOBYTE = 10**3
MEGABYTE = 10**6
GIGABYTE = 10**9
TIMES = "\N{MULTIPLICATION SIGN}"


def decimal(value: float) -> str:
    """Write three significant digits, as far as a stop watch would go."""
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f}"


def megabytes(count: float) -> str:
    """Write megabytes without a fraction, unless there is little."""
    value = count / MEGABYTE
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"
