# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whatever functions import of what travels in Ansible's archive, they import under the lock of ``late.py``.

The head of that file says why. ``tests/integration/test_python39.py`` shows what happens without.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"
SHIPPED = [*sorted(PLUGINS.rglob("module_utils/**/*.py")), *sorted(PLUGINS.glob("modules/*.py"))]
ARCHIVED = re.compile(r"ansible(_collections)?\b")
DYNAMIC = {"__import__", "import_module", "load_module", "exec_module", "__getattr__"}


def of_archive(node: ast.AST) -> bool:
    if isinstance(node, ast.ImportFrom):
        return node.level > 0 or bool(ARCHIVED.match(node.module or ""))
    return isinstance(node, ast.Import) and any(ARCHIVED.match(alias.name) for alias in node.names)


def holds(node: ast.AST) -> bool:
    return isinstance(node, ast.With) and any(ast.unparse(item.context_expr) == "importing" for item in node.items)


def unguarded(node: ast.AST, called: bool = False, guarded: bool = False) -> Iterator[str]:
    """List the imports by which threads could meet an unfinished module, and the words that hide an import."""
    called = called or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
    guarded = guarded or holds(node)
    if called and not guarded and of_archive(node):
        yield f"{node.lineno}: {ast.unparse(node)}"  # type: ignore[attr-defined]
    name = getattr(node, "id", None) or getattr(node, "attr", None) or getattr(node, "name", None)
    if name in DYNAMIC:
        yield f"{getattr(node, 'lineno', '?')}: {name}"
    for child in ast.iter_child_nodes(node):
        yield from unguarded(child, called, guarded)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from . import tar", []),
        ("def f():\n    import requests", []),
        ("def f():\n    from . import tar", ["2: from . import tar"]),
        ("class C:\n    def f(self):\n        if x:\n            from .tar import E", ["4: from .tar import E"]),
        ("def f():\n    with importing:\n        from . import tar\n        from .sif import read", []),
        ("def f():\n    with locked:\n        from . import tar", ["3: from . import tar"]),
        ("def f():\n    with importing:\n        pass\n    from . import tar", ["4: from . import tar"]),
        ("def f():\n    import ansible.module_utils.urls", ["2: import ansible.module_utils.urls"]),
        ("def f():\n    from ansible_collections.a.b import c", ["2: from ansible_collections.a.b import c"]),
        ("def f():\n    return importlib.import_module('tar')", ["2: import_module"]),
        ("def __getattr__(name):\n    return 1", ["1: __getattr__"]),
    ],
)
def test_imports_that_threads_could_share_half_done_are_found(source: str, found: list[str]) -> None:
    assert list(unguarded(ast.parse(source))) == found


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_functions_import_under_the_lock(path: Path) -> None:
    assert list(unguarded(ast.parse(path.read_text()))) == [], "put them into `with importing:`, see late.py"
