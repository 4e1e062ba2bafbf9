# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Arguments of modules, roles, playbooks and plugins: by their argument specs, or else by their documentation."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from unittest.mock import patch

import yaml
from ansible.module_utils.basic import FILE_COMMON_ARGUMENTS, AnsibleModule
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins import loader
from ansible.utils.plugin_docs import get_docstring
from jinja2.filters import FILTERS
from jinja2.tests import TESTS

from tests.examples.blocks import ROOT

OWN = "hpc.sregistry."
BUILTIN = "ansible.builtin."
PACKAGE = "ansible_collections.hpc.sregistry.plugins"
_FREE_FORM = frozenset({f"{BUILTIN}set_fact"})  # which takes any name
_RULES = ("mutually_exclusive", "required_together", "required_one_of", "required_if", "required_by")


@dataclass(frozen=True)
class Spec:
    """The options of a module or role, and the rules between them, as ``AnsibleModule`` takes both."""

    options: Mapping[str, Any]
    rules: Mapping[str, Any] = field(default_factory=dict)
    free_form: bool = False

    def faults(self, given: Mapping[str, Any]) -> list[str]:
        """Say what is wrong with the options of a task. What a template will give is taken for right."""
        options = {name: _loosened(spec, given.get(name)) for name, spec in self.options.items()}
        if self.free_form:
            return []
        validator = ArgumentSpecValidator(options, **{name: self.rules.get(name) for name in _RULES})
        return [str(message) for message in validator.validate(dict(given)).error_messages]


class _Captured(Exception):
    """The arguments that a module gives to ``AnsibleModule``."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        super().__init__()
        self.arguments = arguments


@cache
def of_module(name: str) -> Spec | None:
    """Return what the module ``name`` (with its collection) takes, or None if there is no such module."""
    home = {OWN: f"{PACKAGE}.modules.", BUILTIN: "ansible.modules."}
    prefix = next((each for each in home if name.startswith(each)), None)
    if prefix is None:
        return None
    try:
        module = importlib.import_module(home[prefix] + name.removeprefix(prefix))
    except ModuleNotFoundError:
        return None
    arguments = _captured(module.main) if hasattr(module, "main") else None
    if arguments is None:  # the work is done by a plugin of the controller
        if prefix == OWN:  # the fragments of those have no options
            return Spec(_as_options(yaml.safe_load(module.DOCUMENTATION)["options"]))
        documentation = get_docstring(module.__file__, loader.fragment_loader)[0]
        return Spec(_as_options(documentation.get("options", {})), free_form=name in _FREE_FORM)
    options = dict(arguments["argument_spec"])
    if arguments.get("add_file_common_args"):
        options |= FILE_COMMON_ARGUMENTS
    return Spec(options, {rule: arguments.get(rule) for rule in _RULES})


def _captured(main: Callable[[], None]) -> dict[str, Any] | None:
    def instead(_self: AnsibleModule, argument_spec: Any = None, **arguments: Any) -> None:
        raise _Captured({"argument_spec": argument_spec, **arguments})

    with patch.object(AnsibleModule, "__init__", instead):
        try:
            main()
        except _Captured as captured:
            return captured.arguments
    return None


def _as_options(documented: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _as_spec(option) for name, option in documented.items()}


def _as_spec(option: Mapping[str, Any]) -> dict[str, Any]:
    known = {key: option[key] for key in ("type", "elements", "required", "aliases", "choices") if key in option}
    return {**known, "choices": list(known["choices"])} if "choices" in known else known


@cache
def of_role(name: str) -> Spec | None:
    """Return what the entry point ``main`` of a role takes, or None if there is no such role of the collection."""
    path = ROOT / "roles" / name.removeprefix(OWN) / "meta/argument_specs.yml"
    if not name.startswith(OWN) or not path.exists():
        return None
    return Spec(yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"]["main"]["options"])


@cache
def variables() -> Mapping[str, Mapping[str, Any]]:
    """Return the variables that are ours, by their prefix: those of roles, of playbooks, and of the connection plugin.

    A name with one of these prefixes that is not among them means nothing to anybody.
    """
    roles = {path.name: of_role(OWN + path.name) for path in sorted((ROOT / "roles").iterdir())}
    lock = (ROOT / "playbooks/lock.yml").read_text(encoding="utf-8")
    options = _documented("connection.singularity").values()
    inside = {each["name"] for option in options for each in option.get("vars", [])}
    return {
        **{f"{name}_": spec.options for name, spec in roles.items() if spec},
        "lock_": {name: {} for name in re.findall(r"\block_\w+", lock)},
        "ansible_singularity_": {name: {} for name in inside},
    }


@cache
def of_group(name: str) -> Mapping[str, Any] | None:
    """Return the options that any module of an action group takes, or None if there is no such group."""
    groups = yaml.safe_load((ROOT / "meta/runtime.yml").read_text(encoding="utf-8"))["action_groups"]
    members = [of_module(OWN + module) for module in groups.get(name.removeprefix(OWN), [])]
    return {option: spec for each in members if each for option, spec in each.options.items()} or None


@cache
def of_lookup(name: str) -> Mapping[str, Any] | None:
    """Return the options of a lookup plugin, or None if there is no such plugin."""
    if not name.startswith(OWN):
        path = loader.lookup_loader.find_plugin(name.removeprefix(BUILTIN))
        return get_docstring(path, loader.fragment_loader)[0].get("options", {}) if path else None
    try:
        return _documented(f"lookup.{name.removeprefix(OWN)}")
    except ModuleNotFoundError:
        return None


def _documented(plugin: str) -> Mapping[str, Any]:
    documentation = importlib.import_module(f"{PACKAGE}.{plugin}").DOCUMENTATION
    return dict(yaml.safe_load(documentation)["options"])


@cache
def of_filter(name: str) -> inspect.Signature | None:
    """Return how a filter of this collection is called, None for one of somebody else.

    :raises LookupError: there is no such filter.
    """
    if not name.startswith(OWN):
        if name in FILTERS or loader.filter_loader.get(name.removeprefix(BUILTIN)) is not None:
            return None
        raise LookupError(name)
    try:
        module = importlib.import_module(f"{PACKAGE}.filter.{name.removeprefix(OWN)}")
    except ModuleNotFoundError:
        raise LookupError(name) from None
    return inspect.signature(module.FilterModule().filters()[name.removeprefix(OWN)])


def is_test(name: str) -> bool:
    """Tell whether Jinja2 or Ansible has a test of that name."""
    try:
        return name in TESTS or loader.test_loader.get(name.removeprefix(BUILTIN)) is not None
    except KeyError:
        return False


def is_template(value: Any) -> bool:
    """Tell whether only a template engine knows the value."""
    return isinstance(value, str) and ("{{" in value or "{%" in value)


def _loosened(spec: Mapping[str, Any], value: Any) -> dict[str, Any]:
    """Return ``spec`` without what a value cannot promise before its templates are evaluated."""
    if is_template(value):
        return {key: part for key, part in spec.items() if key in ("required", "aliases", "no_log")} | {"type": "raw"}
    members = value if isinstance(value, list) else [value]
    if any(map(is_template, members)):
        return {key: part for key, part in spec.items() if key not in ("elements", "options", "choices")}
    if "options" in spec:
        inside: dict[str, Any] = {}
        for each in (member for member in members if isinstance(member, dict)):
            inside |= {name: _loosened(part, each.get(name)) for name, part in spec["options"].items()}
        return {**spec, "options": inside or dict(spec["options"])}
    return dict(spec)
