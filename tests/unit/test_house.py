# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The private libraries stay easy to read: short functions, one meaning for a word, few writes to outcomes."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"
FILES = [path for library in ("module_utils", "plugin_utils") for path in sorted((PLUGINS / library).rglob("*.py"))]
MOST_PARAMETERS, MOST_LINES, MOST_WRITES = 6, 45, 15
# Each of these once meant several things.
WORDS = [
    "Answer",
    "Choice",
    "Entry",
    "Image",
    "Key",
    "Means",
    "Order",
    "Placed",
    "Source",
    "Wanted",
    "find",
    "look",
    "place",
    "resolve",
    "room",
    "told",
]


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    """Give every function of a file, also those in classes and in other functions."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def parameters(function: ast.FunctionDef) -> int:
    """Count what a function takes, without ``self`` and ``cls``."""
    given = function.args
    named = [argument.arg for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return len([name for name in named if name not in ("self", "cls")]) + bool(given.vararg) + bool(given.kwarg)


def definitions() -> dict[str, list[str]]:
    """Return where each class, and each public function of a module, is defined."""
    found = defaultdict(list)
    for path in FILES:
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            of_module = isinstance(node, ast.FunctionDef) and node in tree.body and not node.name.startswith("_")
            if isinstance(node, ast.ClassDef) or (isinstance(node, ast.FunctionDef) and of_module):
                found[node.name.lstrip("_")].append(f"{path.relative_to(PLUGINS)}:{node.lineno}")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PLUGINS)))
def test_no_function_is_long_or_takes_much(path: Path) -> None:
    wrong = [
        f"{function.name}: {parameters(function)} parameters, {function.end_lineno - function.lineno + 1} lines"
        for function in functions(ast.parse(path.read_text()))
        if function.end_lineno is not None
        if parameters(function) > MOST_PARAMETERS or function.end_lineno - function.lineno >= MOST_LINES
    ]
    assert wrong == []


def test_no_word_has_two_meanings() -> None:
    places = definitions()
    assert {word: places[word] for word in WORDS if len(places[word]) > 1} == {}


def test_no_class_has_the_name_of_another() -> None:
    assert {name: places for name, places in definitions().items() if name[0].isupper() and len(places) > 1} == {}


def test_outcomes_are_written_in_few_places() -> None:
    """What was found out is returned, and assigned in the end."""
    writes = [
        f"{path.relative_to(PLUGINS)}:{number}"
        for path in PLUGINS.rglob("*.py")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(r"outcome\.\w+ =", line)
    ]
    assert len(writes) <= MOST_WRITES, writes
