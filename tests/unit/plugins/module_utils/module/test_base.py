# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Messages of every module: about a task in which some images failed, and file names that nobody can read."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.errors import StorageError, Unreachable
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.module.base import failing, failure, legible
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.transport.keychain import Login


@pytest.mark.parametrize(
    ("failed", "total", "check", "message"),
    [
        ([("a", "why")], 1, False, "why"),
        ([("a", "why")], 2, False, "1 of 2 images failed, the others are done. a: why"),
        ([("a", "why")], 2, True, "1 of 2 images failed, the others would be done. a: why"),
        ([("a", "why"), ("b", "how")], 2, False, "2 of 2 images failed. a: why; b: how"),
        ([("a", "why"), ("b", "how"), ("c", "why")], 3, False, "3 of 3 images failed. why; this concerns a, c; b: how"),
        (
            [("a", "how"), ("d/b", Unreachable("no d for d/b", "no d")), ("d/c", Unreachable("no d for d/c", "no d"))],
            4,
            False,
            "3 of 4 images failed, the others are done. no d; this concerns d/b, d/c; a: how",
        ),
        (
            [("d/b", Unreachable("no d for d/b", "no d")), ("e", "how")],
            2,
            False,
            "2 of 2 images failed. d/b: no d for d/b; e: how",
        ),
        (
            [(number, "why") for number in range(30)],
            30,
            False,
            f"30 of 30 images failed. why; this concerns {', '.join(map(str, range(20)))} and 10 more",
        ),
    ],
)
def test_each_reason_is_said_once_with_all_images_that_failed_for_it(
    failed: list[tuple[object, object]], total: int, check: bool, message: str
) -> None:
    assert failure(failed, total, check) == message


BAD = os.fsdecode(b"/srv/bad\xff.sif")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("/srv/a.sif", "/srv/a.sif"),
        ("/srv/gr\u00fc\u00dfe/\u2603.sif", "/srv/gr\u00fc\u00dfe/\u2603.sif"),
        (BAD, "/srv/bad\\xff.sif"),
        ("\udcc3\udcbc\udcff", "\u00fc\\xff"),  # bytes that are a letter, and one that is none
        ("half a pair \ud83d", "half a pair \\ud83d"),
        ("\ud83d and \udcff", "\\ud83d and \\udcff"),
    ],
)
def test_what_is_no_utf_8_is_said_as_an_escape(text: str, said: str) -> None:
    assert legible(text) == said
    json.dumps(legible(text), ensure_ascii=False).encode()


def test_a_result_is_legible_in_all_its_parts() -> None:
    result = {"images": [{"path": BAD, "size": 1, "changed": True, "error": None}], BAD: (BAD, 1.5)}
    said = "/srv/bad\\xff.sif"
    assert legible(result) == {
        "images": [{"path": said, "size": 1, "changed": True, "error": None}],
        said: [said, 1.5],
    }


class Said(Exception):
    """The words that a module would have told Ansible."""


class Mouth(AnsibleModule):  # type: ignore[misc]
    """A module that raises what it says."""

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.no_log_values: set[str] = set()

    def exit_json(self, **result: Any) -> None:
        """Raise the words of a module that ends well."""
        raise Said("exit", result)

    def fail_json(self, msg: str, **result: Any) -> None:
        """Raise the words of a module that ends badly."""
        raise Said("fail", {"msg": msg, **result})

    def warn(self, warning: str) -> None:
        """Warn."""
        self.warnings.append(warning)


def test_all_that_a_module_says_is_legible() -> None:
    module = Mouth()
    with failing(module):
        module.warn(BAD)
    assert module.warnings == ["/srv/bad\\xff.sif"]
    module = Mouth()
    with pytest.raises(Said) as said, failing(module):
        module.exit_json(swept=[BAD])
    assert said.value.args == ("exit", {"swept": ["/srv/bad\\xff.sif"]})
    module = Mouth()
    with pytest.raises(Said) as said, failing(module):
        raise StorageError(f"cannot use {BAD}")
    assert said.value.args == ("fail", {"msg": "cannot use /srv/bad\\xff.sif"})


def test_ansible_hides_also_the_secrets_of_files_in_all_results() -> None:
    module = Mouth()
    Login("ann", "correct horse")
    Login("ann", "short")
    with pytest.raises(Said), failing(module):
        module.exit_json()
    assert "correct horse" in module.no_log_values
    assert "short" not in module.no_log_values
