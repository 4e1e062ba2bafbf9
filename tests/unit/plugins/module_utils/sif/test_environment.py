# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The script that sets an image's environment, run by the shells that a host may have."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.hpc.sregistry.plugins.module_utils._internal.sif.environment import environment_script
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SHELLS = [["sh"], ["dash"], ["bash"], ["bash", "--posix"], ["busybox", "sh"]]
SHOW = "import json, os; print(json.dumps({k.decode('latin-1'): v.decode('latin-1') for k, v in os.environb.items()}))"
NASTY = [
    "plain",
    "",
    " a  b ",
    "\ta\t",
    "`touch marker`",
    "$(touch marker)",
    "$HOME ${HOME} $$ $1 $",
    "${KEY:-other}",
    'say "hi"',
    '"',
    '""',
    "it's",
    "''",
    "back\\slash",
    "\\",
    "\\\\",
    "\\n\\t\\0",
    '\\"',
    "\\$HOME",
    "\\`touch marker\\`",
    "line\nbreak",
    "\n",
    "trailing\n\n",
    "\\\n",
    "grüße ☃ 𝄞",
    "\u2028",
    "}",
    "a}b${c}",
    '"}; touch marker; : "${',
    "*",
    "?[a-z]",
    "~",
    "#no comment",
    "a;b&c|d>marker",
    "a=b=c",
    "!history",
    "-n",
    "%s",
    "\r\n",
    "\x01\x7f",
]


@pytest.fixture(params=SHELLS, ids=" ".join)
def shell(request: pytest.FixtureRequest) -> list[str]:
    """Return the command of a shell that this host has."""
    path = shutil.which(request.param[0])
    if path is None:
        pytest.skip(f"there is no {request.param[0]} on this host")
    return [path, *request.param[1:]]


def after(
    shell: list[str], directory: Path, variables: list[str], caller: dict[str, str] | None = None
) -> dict[str, str]:
    """Return the environment after a shell that a caller started has read the script."""
    script = directory / "environment.sh"
    script.write_bytes(environment_script(variables).encode())
    done = subprocess.run(
        [*shell, "-c", '. "$0" && exec "$@"', str(script), sys.executable, "-S", "-c", SHOW],
        env=caller or {},
        cwd=directory,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    return {key: value.encode("latin-1").decode() for key, value in json.loads(done.stdout).items()}


@pytest.mark.parametrize("value", NASTY)
def test_a_value_arrives_as_it_is(shell: list[str], tmp_path: Path, value: str) -> None:
    variables = [f"KEY={value}", "NEXT=still here", f"PATH={value}"]
    environment = after(shell, tmp_path, variables)
    assert (environment["KEY"], environment["NEXT"], environment["PATH"]) == (value, "still here", value)
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("own", [value for value in NASTY if value])
def test_a_callers_value_wins_but_not_for_path(shell: list[str], tmp_path: Path, own: str) -> None:
    variables = ["KEY=of the image", "PATH=/image/bin", "ALONE"]
    environment = after(shell, tmp_path, variables, {"KEY": own, "PATH": own, "ALONE": own})
    assert (environment["KEY"], environment["PATH"], environment["ALONE"]) == (own, "/image/bin", own)
    assert not (tmp_path / "marker").exists()


def test_a_callers_empty_value_does_not_win(shell: list[str], tmp_path: Path) -> None:
    assert after(shell, tmp_path, ["KEY=of the image"], {"KEY": ""})["KEY"] == "of the image"


def test_a_name_alone_is_set_and_empty(shell: list[str], tmp_path: Path) -> None:
    assert after(shell, tmp_path, ["ALONE"])["ALONE"] == ""


def test_all_nasty_values_stand_side_by_side(shell: list[str], tmp_path: Path) -> None:
    environment = after(shell, tmp_path, [f"KEY_{number}={value}" for number, value in enumerate(NASTY)])
    assert [environment[f"KEY_{number}"] for number in range(len(NASTY))] == NASTY


def test_of_a_name_that_occurs_twice_the_first_value_wins_but_for_path_the_last(
    shell: list[str], tmp_path: Path
) -> None:
    environment = after(shell, tmp_path, ["KEY=1", "KEY=2", "PATH=/1", "PATH=/2"])
    assert (environment["KEY"], environment["PATH"]) == ("1", "/2")


@pytest.mark.parametrize(
    "variable",
    ["", "=x", "1A=x", "A-B=x", "A B=x", "A.B=x", "É=x", "A\n=x", "$(touch marker)=x", "a;b=x", "BASH_FUNC_f%%=() {"],
)
def test_a_name_that_a_shell_cannot_set_is_left_out(variable: str) -> None:
    assert environment_script([variable, "KEY=x"]) == '#!/bin/sh\nexport KEY="${KEY:-"x"}"\n'


def test_the_script_as_the_engine_would_write_it() -> None:
    variables = ["PATH=/usr/bin:/bin", 'A=say "$1" `x` \\', "B"]
    assert environment_script(variables) == (
        '#!/bin/sh\nexport PATH="/usr/bin:/bin"\nexport A="${A:-"say \\"\\$1\\" \\`x\\` \\\\"}"\nexport B="${B:-}"\n'
    )
    assert environment_script([]) == "#!/bin/sh\n"


@given(
    values=st.lists(
        st.one_of(
            st.text("ab \\\"'`$(){}\n", max_size=12),
            st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12),
        ),
        min_size=1,
        max_size=20,
    )
)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_values_arrive_as_they_are(tmp_path: Path, values: list[str]) -> None:
    path = shutil.which("sh")
    assert path is not None
    environment = after([path], tmp_path, [f"KEY_{number}={value}" for number, value in enumerate(values)])
    assert [environment[f"KEY_{number}"] for number in range(len(values))] == values
