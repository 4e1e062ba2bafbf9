# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write ``docs/examples.md``: which examples run in the lab, which are only checked, and why."""

from __future__ import annotations

import os.path
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.examples.blocks import ROOT, Block, blocks
from tests.examples.table import Table, table

PAGE = ROOT / "docs/examples.md"
_HEAD = """\
<!-- Written by "python -m tests.examples" from the documents and tests/examples/table.yml. Do not edit. -->

# The examples of these documents

Every example in YAML or INI, of the README, the guides, the roles and the documentation of modules and plugins, is
taken out by `make test`. All of them are read by Ansible (`--syntax-check`), and held against what they name: options
of modules, variables of roles, action groups, filters, tests and lookups.

Those that can run are played on hosts of [the lab](../tests/lab/README.md), as they stand: there `quay.io`,
`registry.example.org` and the others are registries of the lab, one of which wants a login, with small images under
these names. Each is played twice. No task may fail, and none may change anything the second time, except where the
example does its work anew each time.
"""


def page() -> str:
    """Return the text of the page."""
    return "\n".join([_HEAD, *_only_checked(blocks(), table()), *_that_run(blocks(), table())]) + "\n"


def _only_checked(found: Iterable[Block], treatments: Table) -> Iterator[str]:
    yield from ("## Only checked", "", "| document | example | why it does not run |", "|---|---|---|")
    for block in found:
        treatment = treatments.of(block)
        reasons = {_shown(block): treatment.check} if treatment.check else treatment.without
        for title, reason in reasons.items():
            yield f"| {_link(block)} | {title} | {reason} |"
    yield ""


def _that_run(found: Iterable[Block], treatments: Table) -> Iterator[str]:
    yield from ("## Run", "", "| document | examples |", "|---|---|")
    of_document: dict[str, list[Block]] = {}
    for block in found:
        if not treatments.of(block).check:
            of_document.setdefault(block.document, []).append(block)
    for members in of_document.values():
        yield f"| {_link(members[0])} | {'; '.join(map(_shown, members))} |"


def _shown(block: Block) -> str:
    if block.document.endswith(".py"):
        return "all examples" if block.title == "EXAMPLES" else block.title
    return f"`{block.title}`" if re.search(r"[:_\[]|\.\w", block.title) else block.title


def _link(block: Block) -> str:
    return f"[{block.document}]({os.path.relpath(block.document, PAGE.parent.relative_to(ROOT))})"


def write(path: Path = PAGE) -> None:
    """Write the page."""
    path.write_text(page(), encoding="utf-8")
