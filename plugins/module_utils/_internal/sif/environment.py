# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The environment of an image, as the shell script that the engine reads, with its values escaped.

It is written here, since Apptainer before 1.5 escapes values twice: a back quote or dollar sign in one value broke all.
"""

from __future__ import annotations

import re

_NAME = re.compile(r"\A[A-Za-z_][A-Za-z0-9_]*\Z")


def environment_script(variables: list[str]) -> str:
    """Return the shell script that sets an image's environment: a value of the caller wins, but for PATH.

    :param variables: ``NAME=VALUE``, or ``NAME`` alone; names that a shell cannot set are left out, as the engine does.
    """
    lines = ["#!/bin/sh"]
    for variable in variables:
        name, equals, value = variable.partition("=")
        if not _NAME.match(name):
            continue
        if not equals:
            lines.append(f'export {name}="${{{name}:-}}"')
            continue
        escaped = re.sub(r'([\\"`$])', r"\\\1", value)
        lines.append(f'export {name}="{escaped}"' if name == "PATH" else f'export {name}="${{{name}:-"{escaped}"}}"')
    return "\n".join(lines) + "\n"
