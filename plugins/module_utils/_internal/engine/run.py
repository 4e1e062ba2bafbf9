# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The command line that runs something in an image, for the engine of a host and its version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .cli import Engine


@dataclass(frozen=True)
class RunOptions:
    """The options of a run in an image; each field is the option of ``apptainer exec`` of its name.

    :ivar binds: each ``SOURCE[:TARGET[:OPTIONS]]``.
    :ivar home: ``SOURCE[:TARGET]``.
    :ivar env: variables inside of the container. They stand in the argument vector, so they must not hold secrets;
        ``Engine.inside`` names the variables that are.
    """

    binds: tuple[str, ...] = ()
    overlays: tuple[str, ...] = ()
    scratch: tuple[str, ...] = ()
    no_mount: tuple[str, ...] = ()
    home: str | None = None
    pwd: str | None = None
    workdir: str | None = None
    hostname: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    cleanenv: bool = False
    compat: bool = False
    contain: bool = False
    containall: bool = False
    fakeroot: bool = False
    no_eval: bool = False
    no_home: bool = False
    no_init: bool = False
    no_umask: bool = False
    nv: bool = False
    nvccli: bool = False
    rocm: bool = False
    unsquash: bool = False
    userns: bool = False
    writable: bool = False
    writable_tmpfs: bool = False


_FLAGS = tuple(
    name
    for name, default in ((name, RunOptions.__dataclass_fields__[name].default) for name in RunOptions.__annotations__)
    if default is False
)


def exec_command(
    engine: Engine, image: str, command: Sequence[str] = (), options: RunOptions | None = None, action: str = "exec"
) -> list[str]:
    """Return the argument vector that runs a command in an image, ready for a subprocess.

    :param image: a path or URI.
    :param command: with its arguments; for ``run`` and ``shell``, arguments alone.
    :param action: ``exec``, ``run`` or ``shell``.
    :raises EngineError: naming an option that this version does not know.
    """
    options = options or RunOptions()
    say = engine.dialect.option
    vector = [engine.path, action]
    vector += [say(action, f"--{name.replace('_', '-')}") for name in _FLAGS if getattr(options, name)]
    for option, values in (
        ("--home", (options.home,)),
        ("--pwd", (options.pwd,)),
        ("--workdir", (options.workdir,)),
        ("--hostname", (options.hostname,)),
        ("--overlay", options.overlays),
        ("--scratch", options.scratch),
        ("--no-mount", options.no_mount),
        ("--bind", options.binds),
    ):
        for value in values:
            vector += [say(action, option), value] if value else []
    for name, value in options.env.items():
        vector += engine.dialect.environment(name, value, options.no_eval)
    return [*vector, image, *command]
