# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The environment of the programs that this library runs.

It is decided here for all of them, since a program inherits whatever it is not kept from: also the login that a module
has taken from a variable.
"""

from __future__ import annotations

import os

# How variables begin that are options of these modules, or were set for an engine that the user starts. Since
# SingularityCE 3.11 and Apptainer 1.2 the two logins are also read without a prefix. The last changes what is made.
FOREIGN = ("APPTAINER", "SINGULARITY", "SREGISTRY_", "DOCKER_USERNAME", "DOCKER_PASSWORD", "SOURCE_DATE_EPOCH")


def inherited(**more: str) -> dict[str, str]:
    """Return the environment of this process without what is meant for modules and engines, and with some more.

    :param more: variables by name. A login for the program is given here.
    """
    return {**{name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}, **more}


def bare(**more: str) -> dict[str, str]:
    """Return an environment in which the user of Ansible changes only where programs are found."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", **more}
