# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prepare a home directory in which ansible-test sets itself up from a package index alone.

For its sanity tests ansible-test makes virtual environments without pip and starts each of them with a get-pip script
that it downloads from a server of its own, into a cache below the home directory. Where only a package index is
reached, that download fails. This puts a stand-in into that cache, under the name that the installed ansible-test looks
for: it installs the same version of pip, from a wheel of the package index.

ansible-test also hides the caller's environment from pip. The settings found there are written to the pip.conf of the
home directory.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import ansible_test
from ansible_test._internal import constants, python_requirements

STAND_IN = '''\
"""Install pip and whatever else the arguments name, with the pip of a wheel; takes the arguments of get-pip.py."""

import runpy
import sys

sys.path.insert(0, {wheel!r})
arguments = [argument for argument in sys.argv[1:] if argument not in ("--no-setuptools", "--no-wheel")]
sys.argv[1:] = ["install", "--upgrade"] + arguments
runpy.run_module("pip", run_name="__main__", alter_sys=True)
'''


def bootstrap_pattern() -> str:
    """Return the path of the cached get-pip script, as ansible-test spells it: with ~ and %s for the version of pip.

    Raises LookupError if this version of ansible-test does it in another way.
    """
    source = Path(ansible_test.__path__[0]) / "_util/target/setup/requirements.py"
    match = re.search(r"cache_path = os\.path\.expanduser\('(~/[^']*%s[^']*)'", source.read_text(encoding="utf-8"))
    if match is None:
        raise LookupError(f"{source} does not name a cached get-pip script any more")
    return match[1]


def pip_versions() -> set[str]:
    """Return the versions of pip that ansible-test wants, over all versions of Python that it supports."""
    return {
        python_requirements.get_venv_packages(SimpleNamespace(version=version))["pip"]
        for version in constants.SUPPORTED_PYTHON_VERSIONS
    }


def write_stand_in(home: Path, version: str) -> None:
    """Put the stand-in for one version of pip, and the wheel it runs, into the cache below home."""
    relative = (bootstrap_pattern() % version.replace(".", "_")).removeprefix("~/")
    script = home / relative
    wheel = script.parent / f"pip-{version}-py3-none-any.whl"
    if not wheel.exists():
        script.parent.mkdir(parents=True, exist_ok=True)
        download = ["download", "-qq", "--no-deps", "--only-binary=:all:", "--dest", str(script.parent)]
        subprocess.run([sys.executable, "-m", "pip", *download, f"pip=={version}"], check=True)
    script.write_text(STAND_IN.format(wheel=str(wheel)), encoding="utf-8")


def pip_settings() -> dict[str, dict[str, str]]:
    """Return pip's settings in force as {section: {key: value}}; those of the environment win over those of files."""
    listing = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], check=True, capture_output=True, text=True
    )
    files: dict[str, dict[str, str]] = {"global": {}}
    environment: dict[str, str] = {}
    for line in listing.stdout.splitlines():
        name, _equals, value = line.partition("=")
        section, _dot, key = name.rpartition(".")
        target = environment if section == ":env:" else files.setdefault(section, {})
        target[key] = ast.literal_eval(value)
    files["global"].update(environment)
    files["global"]["quiet"] = "2"  # errors only
    return files


def write_pip_settings(home: Path) -> None:
    """Write pip's settings in force to the pip.conf below home, readable by its owner only: a URL may hold a login."""
    lines = []
    for section, settings in pip_settings().items():
        lines.append(f"[{section}]")
        lines += [f"{key} = {value}".replace("\n", "\n    ") for key, value in settings.items()]
    path = home / ".config/pip/pip.conf"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    """Prepare the home directory that the first argument names."""
    home = Path(os.path.abspath(sys.argv[1]))
    for version in sorted(pip_versions()):
        write_stand_in(home, version)
    write_pip_settings(home)


if __name__ == "__main__":
    main()
