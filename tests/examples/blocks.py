# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The examples where they stand: fenced blocks of the guides, and ``EXAMPLES`` of modules and plugins."""

from __future__ import annotations

import ast
import re
import textwrap
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
LANGUAGES = frozenset({"yaml", "yml", "ini"})
PLAYS, TASKS, ROLES, PLAY, DATA, INI = "plays", "tasks", "roles", "part of a play", "data", "ini"
_PARTS_OF_A_PLAY = {"roles", "tasks", "pre_tasks", "post_tasks", "handlers", "module_defaults", "environment"}
_FENCE = re.compile(r"^(?P<indent> *)(?P<fence>```+|~~~+) *(?P<language>[\w+-]*)")


@dataclass(frozen=True)
class Block:
    """One example: ``document`` is a path in the repository, ``line`` where it begins there, from 1 on.

    ``title`` is the first name in it, or else its first line; of several with one title in a document, the second
    has " (2)" behind it. So it stays the same when other lines move.
    """

    document: str
    line: int
    title: str
    language: str
    text: str

    @property
    def place(self) -> str:
        """Name its place in the document, as ``docs/ci.md:11``."""
        return f"{self.document}:{self.line}"

    @property
    def data(self) -> Any:
        """Return the data that the YAML stands for.

        :raises yaml.YAMLError: it is none.
        """
        return yaml.safe_load(self.text)

    @property
    def kind(self) -> str:
        """Tell whether it is plays, tasks, roles of a play, part of a play, other data, or an INI file."""
        if self.language == "ini":
            return INI
        data = self.data
        if isinstance(data, dict):
            return PLAY if data.keys() & _PARTS_OF_A_PLAY else DATA
        if not isinstance(data, list) or not all(isinstance(each, dict) for each in data):
            return DATA
        for kind, keys in ((PLAYS, ("hosts", "import_playbook")), (ROLES, ("role",))):
            if all(any(key in each for key in keys) for each in data):
                return kind
        return TASKS


@cache
def blocks() -> tuple[Block, ...]:
    """Return all examples in YAML or INI of the repository, document by document."""
    found = []
    for path in documents():
        text = path.read_text(encoding="utf-8")
        raw = examples_of(text) if path.suffix == ".py" else fenced(text)
        found += titled(path.relative_to(ROOT).as_posix(), [each for each in raw if each[1] in LANGUAGES])
    return tuple(found)


def documents() -> list[Path]:
    """Return every file that may hold examples: README files, guides, and all modules and plugins."""
    guides = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("roles/*/*.md"))]
    kinds = ("modules", "lookup", "filter", "connection", "doc_fragments", "action")
    return [*guides, *(path for kind in kinds for path in sorted(ROOT.glob(f"plugins/{kind}/*.py")))]


def fenced(text: str) -> Iterator[tuple[int, str, str]]:
    """Give the line, the language and the text of each fenced block (CommonMark 0.31, section 4.5).

    :raises ValueError: a block does not end.
    """
    lines = iter(enumerate(text.splitlines(), 1))
    for number, line in lines:
        begin = _FENCE.match(line)
        if not begin:
            continue
        inside = []
        for _number, each in lines:
            if each.strip().startswith(begin["fence"]):
                break
            inside.append(each)
        else:
            raise ValueError(f"the block that begins in line {number} does not end")
        yield number, begin["language"].lower(), textwrap.dedent("\n".join(inside)) + "\n"


def examples_of(text: str) -> Iterator[tuple[int, str, str]]:
    """Give the line, the language and the text of ``EXAMPLES`` of a module or plugin."""
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and [getattr(each, "id", "") for each in node.targets] == ["EXAMPLES"]:
            yield node.lineno, "yaml", str(ast.literal_eval(node.value)).strip("\n") + "\n"


def titled(document: str, raw: list[tuple[int, str, str]]) -> list[Block]:
    """Give each block of a document a title of its own."""
    seen: Counter[str] = Counter()
    found = []
    for line, language, text in raw:
        title = "EXAMPLES" if document.endswith(".py") else _title(text)
        seen[title] += 1
        found.append(Block(document, line, title if seen[title] == 1 else f"{title} ({seen[title]})", language, text))
    return found


def _title(text: str) -> str:
    named = re.search(r"^ *(?:- )?name: *(?![\[{])(\S.*)$", text, re.MULTILINE)
    first = next(line for line in text.splitlines() if line.strip(" -"))
    return (named[1] if named and not named[1].startswith(("docker:", "oras:", "quay")) else first).strip(" \"'#")
