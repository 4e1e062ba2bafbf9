# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``ssh`` for Ansible, which counts what goes to a host: a line with bytes in the file $COUNTED_FILE for each command.

With pipelining, a module comes as standard input; where there is none, Ansible gives a terminal.
"""

from __future__ import annotations

import os
import subprocess
import sys


def main() -> int:
    """Run ``ssh`` and return its status; what is counted is the command, the last argument, and its input."""
    arguments = sys.argv[1:]
    data = b"" if sys.stdin.isatty() else sys.stdin.buffer.read()
    with open(os.environ["COUNTED_FILE"], "a", encoding="utf-8") as stream:
        stream.write(f"{len(os.fsencode(arguments[-1])) + len(data)}\n")
    return subprocess.run(["ssh", *arguments], input=data, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
