# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Modules that run with Python 3.9 and the libraries of its time, as on Enterprise Linux 9."""

from __future__ import annotations

import inspect
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab import debian, python39

from . import test_definition, test_pull, test_push, test_store
from .conftest import LAB, REGISTRY, Host
from .tags import Tag

PLACE = "/opt/python3.9"
ROUNDS = 20

# The first round builds all images. In the others nine of their files are lost, and come back from the cache. There are
# nine threads, so that all of them work at once then too; all thirty names are asked for.
PLAY = """
- hosts: {host}
  gather_facts: false
  tasks:
    - ansible.builtin.include_tasks: round.yml
      loop: "{{{{ range({rounds}) | list }}}}"
"""
ROUND = """
- ansible.builtin.raw: rm -f ~/.singularity/shub/127.0.0.1_5000/lab/many?[147]*
- hpc.sregistry.sregistry_pull:
    name: {names}
    no_https: true
  register: result
- ansible.builtin.debug:
    msg: "DID {{{{ result.images | map(attribute='action') | unique | join(',') }}}}."
"""


@pytest.fixture(scope="module")
def old(hosts: tuple[Host, Host]) -> str:
    """Return the interpreter, in its place on the first host."""
    try:
        directory = python39.python39()
    except debian.NotAvailable as missing:
        pytest.skip(str(missing))
    hosts[0].shell(f"rm -rf {PLACE}")
    hosts[0].copy_directory(str(directory), PLACE)
    return f"{PLACE}/python3"


@pytest.fixture
def node1(node1: Host, old: str) -> Host:
    """Return the first host, as root, with an empty store and Python 3.9."""
    return node1.with_python(old)


@pytest.fixture
def user(node1: Host) -> Host:
    """Return an ordinary user of the first host, with Python 3.9 and a directory for what is built."""
    node1.shell("rm -rf ~hpc/def /tmp/boxes; mkdir -m 1777 /tmp/boxes")
    return node1.as_user("hpc")


def the_life_of_a_tag(node1: Host, user: Host, tag: Tag) -> None:
    test_pull.test_the_whole_life_of_a_tag("node1", "hpc", tag, node1, user)


MAIN: list[Callable[..., None]] = [
    the_life_of_a_tag,
    test_pull.test_a_record_is_upgraded_by_a_pull,
    test_definition.test_a_definition_with_everything,
    test_push.test_what_is_pushed_once_is_there_for_everybody,
    test_store.test_the_life_of_an_image_that_was_built_elsewhere,  # add, rename, facts, remove
]


def test_it_is_that_python(node1: Host, old: str) -> None:
    script = "import sys, requests, urllib3; print(*sys.version_info[:2], requests.__version__, urllib3.__version__)"
    assert node1.shell(f"{old} -c '{script}'").stdout.split() == ["3", "9", "2.25.1", "1.26.5"]
    facts = node1.module("ansible.builtin.setup", gather_subset=["!all", "python"])["ansible_facts"]
    assert facts["ansible_python_version"].startswith("3.9.")


def test_thirty_images_at_once_twenty_times(node1: Host, tmp_path: Path) -> None:
    names = [f"{REGISTRY}/lab/many{number:02}:latest" for number in range(1, 31)]
    (tmp_path / "play.yml").write_text(PLAY.format(host=node1.name, rounds=ROUNDS))
    (tmp_path / "round.yml").write_text(ROUND.format(names=json.dumps(names)))
    variables = {"ansible_user": node1.user, "ansible_python_interpreter": node1.python}
    done = subprocess.run(
        ["ansible-playbook", "-i", LAB / "inventory.yml", "-e", json.dumps(variables), tmp_path / "play.yml"],
        capture_output=True,
        text=True,
        timeout=7200,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    did = [done.stdout.count(f"DID {actions}.") for actions in ("pulled", "repaired,present")]
    assert did == [1, ROUNDS - 1], done.stdout


@pytest.mark.parametrize("test", MAIN, ids=lambda test: test.__name__)
def test_what_others_do_it_does(test: Callable[..., None], request: pytest.FixtureRequest) -> None:
    test(**{name: request.getfixturevalue(name) for name in inspect.signature(test).parameters})
