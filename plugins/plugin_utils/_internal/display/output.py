# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The readers of what Ansible prints: people or programs."""

from __future__ import annotations

from ansible import constants


def is_machine_read() -> bool:
    """Tell whether programs read what Ansible prints."""
    return str(constants.DEFAULT_STDOUT_CALLBACK).rpartition(".")[2].startswith("json")
