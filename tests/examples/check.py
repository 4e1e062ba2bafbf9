# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold an example against what it names: options of modules, variables of roles, filters, lookups.

Whether the rest of it is Ansible's language, ``ansible-playbook --syntax-check`` says.
"""

from __future__ import annotations

import configparser
import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jinja2
import yaml
from ansible.errors import AnsibleError
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import SregistryError
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.oci.pins import Pins
from jinja2 import nodes

from tests.examples import specs
from tests.examples.blocks import DATA, INI, PLAY, PLAYS, ROLES, TASKS, Block

_LISTS_OF_TASKS = ("pre_tasks", "tasks", "post_tasks", "handlers")
_BLOCKS = ("block", "rescue", "always")
_EXPRESSIONS = frozenset({"when", "changed_when", "failed_when", "until", "that"})
_ROLE_MODULES = frozenset({"ansible.builtin.include_role", "ansible.builtin.import_role"})
_KEYWORDS_OF_ROLES = frozenset({"role", "name", "vars", "when", "tags", "become", "become_user", "environment"})
_RAW = frozenset({"ansible.builtin.command", "ansible.builtin.raw", "ansible.builtin.shell"})
Faults = Iterator[str]


def faults(block: Block) -> list[str]:
    """Say what is wrong with an example, one sentence each; nothing where it is right."""
    if block.language == INI:
        return list(_of_ini(block.text))
    try:
        data: Any = block.data
    except yaml.YAMLError as error:
        return [f"no YAML: {error}"]
    kind = block.kind
    found = [*_of_names(data), *_of_templates(data)]
    if kind == PLAYS:
        found += [fault for play in data for fault in _of_play(play)]
    elif kind == PLAY:
        found += _of_play(data)
    elif kind == TASKS:
        found += _of_tasks(data)
    elif kind == ROLES:
        found += [fault for role in data for fault in _of_role(role, {})]
    return found if kind != DATA else [*found, *_of_variables(data)]


def _of_ini(text: str) -> Faults:
    try:
        configparser.ConfigParser().read_string(text)
    except configparser.Error as error:
        yield f"no INI file: {error}"


def _of_play(play: Mapping[str, Any]) -> Faults:
    for role in play.get("roles", []):
        yield from _of_role({"role": role} if isinstance(role, str) else role, play.get("vars", {}))
    yield from _of_defaults(play.get("module_defaults", {}))
    for name in _LISTS_OF_TASKS:
        yield from _of_tasks(play.get(name) or [])


def _of_tasks(tasks: Iterable[Mapping[str, Any]]) -> Faults:
    for task in tasks:
        title = task.get("name", "a task without a name")
        yield from _of_defaults(task.get("module_defaults", {}))
        nested = [each for part in _BLOCKS for each in task.get(part, [])]
        if nested:
            yield from _of_tasks(nested)
            continue
        modules = [key for key in task if "." in key]
        if len(modules) != 1:
            yield f"{title}: it must name one module, with its collection; it names {', '.join(modules) or 'none'}"
            continue
        for fault in _of_module(modules[0], task[modules[0]], task.get("vars", {})):
            yield f"{title}: {modules[0]}: {fault}"


def _of_module(name: str, given: Any, variables: Mapping[str, Any]) -> Faults:
    spec = specs.of_module(name)
    if spec is None:
        yield "there is no such module"
        return
    if isinstance(given, str):
        if name not in _RAW:
            yield f"options are given as text, {given!r}"
        return
    yield from spec.faults(given or {})
    if name in _ROLE_MODULES:
        yield from _of_role({"role": (given or {}).get("name"), "vars": variables}, {})


def _of_role(role: Mapping[str, Any], of_play: Mapping[str, Any]) -> Faults:
    name = str(role["role"])
    spec = specs.of_role(name)
    if spec is None:
        yield f"there is no role {name}"
        return
    given = {key: value for key, value in role.items() if key not in _KEYWORDS_OF_ROLES}
    known = {key: value for key, value in of_play.items() if key in spec.options}
    yield from (f"role {name}: {fault}" for fault in spec.faults({**known, **role.get("vars", {}), **given}))


def _of_defaults(defaults: Mapping[str, Any]) -> Faults:
    for name, given in defaults.items():
        group = name.removeprefix("group/")
        spec = specs.of_module(name) if group == name else None
        options = spec.options if spec else specs.of_group(group) if group != name else None
        if options is None:
            yield f"module_defaults: there is no {name}"
            continue
        unknown = sorted(set(given) - set(options))
        if unknown:
            yield f"module_defaults: {name} has no option {', '.join(unknown)}"


def _of_variables(data: Any) -> Faults:
    """Yield a fault for each variable in data, such as a file of ``group_vars``, of a wrong type; a lock is data."""
    if not isinstance(data, dict):
        return
    if data.keys() == {"images"}:
        yield from _of_lock(data["images"])
    for prefix, known in specs.variables().items():
        given = {name: value for name, value in data.items() if name in known}
        spec = specs.Spec({name: {**known[name], "required": False} for name in given})
        yield from (f"{prefix}…: {fault}" for fault in spec.faults(given))


def _of_lock(images: Any) -> Faults:
    try:
        Pins.parse(images)
    except SregistryError as error:
        yield f"a lock: {error}"


def _of_names(data: Any) -> Faults:
    """Yield a fault for each variable that begins as ours do, and is not one of ours."""
    for name in _keys(data):
        prefix = next((each for each in specs.variables() if name.startswith(each)), None)
        if prefix and name not in specs.variables()[prefix]:
            close = difflib.get_close_matches(name, specs.variables()[prefix], 1)
            yield f"there is no variable {name}" + (f"; there is {close[0]}" if close else "")


def _keys(data: Any) -> Iterator[str]:
    if isinstance(data, dict):
        for key, value in data.items():
            yield str(key)
            yield from _keys(value)
    elif isinstance(data, list):
        for value in data:
            yield from _keys(value)


def _of_templates(data: Any) -> Faults:
    for text in _templates(data):
        try:
            tree = jinja2.Environment().parse(text)
        except jinja2.TemplateSyntaxError as error:
            yield f"{text!r}: {error}"
            continue
        for node in tree.find_all((nodes.Filter, nodes.Test, nodes.Call)):
            yield from _of_node(node)


def _of_node(node: nodes.Node) -> Faults:
    if isinstance(node, nodes.Test) and not specs.is_test(node.name):
        yield f"there is no test {node.name}"
    elif isinstance(node, nodes.Filter):
        yield from _of_filter(node)
    elif isinstance(node, nodes.Call) and getattr(node.node, "name", "") in ("lookup", "query", "q"):
        yield from _of_lookup(node)


def _of_filter(node: nodes.Filter) -> Faults:
    try:
        signature = specs.of_filter(node.name)
    except (LookupError, AnsibleError):
        yield f"there is no filter {node.name}"
        return
    if signature:
        try:
            signature.bind(None, *node.args, **{str(each.key): each.value for each in node.kwargs})
        except TypeError as error:
            yield f"filter {node.name}: {error}"


def _of_lookup(node: nodes.Call) -> Faults:
    name = node.args[0].value if node.args and isinstance(node.args[0], nodes.Const) else ""
    options = specs.of_lookup(name)
    if options is None:
        yield f"there is no lookup {name!r}"
        return
    unknown = sorted({each.key for each in node.kwargs} - {*options, "wantlist", "errors"})
    if unknown:
        yield f"lookup {name} has no option {', '.join(unknown)}"


def _templates(data: Any, expression: bool = False) -> Iterator[str]:
    """Give each template of the data; what stands where Ansible wants an expression is made one."""
    if isinstance(data, dict):
        for key, value in data.items():
            if specs.is_template(key):
                yield key
            yield from _templates(value, expression=key in _EXPRESSIONS)
    elif isinstance(data, list):
        for value in data:
            yield from _templates(value, expression)
    elif isinstance(data, str) and (expression or specs.is_template(data)):
        yield data if specs.is_template(data) else "{{ " + data + " }}"
