# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Definition files: headers, sections, stages, and build arguments, read as the engines read them.

Sources: Apptainer and SingularityCE, ``pkg/build/types/parser/deffile.go`` (the grammar),
``internal/pkg/build/build.go`` (``MakeAllDefs``, ``copyFiles``) and ``internal/pkg/build/args`` (build arguments, since
Apptainer 1.2 and SingularityCE 4.0).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ..errors import InvalidDefinition
from .dialect import fault_of

DOCKER, LOCAL_IMAGE = "docker", "localimage"

_SECTIONS = frozenset(
    ["help", "setup", "files", "labels", "environment", "pre", "post", "runscript", "test", "startscript", "arguments"]
)
_APP_SECTIONS = frozenset(["appinstall", "applabels", "appfiles", "appenv", "apptest", "apphelp", "apprun", "appstart"])
_HEADERS = frozenset(
    [
        "bootstrap",
        "from",
        "includecmd",
        "mirrorurl",
        "updateurl",
        "osversion",
        "include",
        "library",
        "registry",
        "namespace",
        "stage",
        "product",
        "user",
        "regcode",
        "productpgp",
        "registerurl",
        "modules",
        "fingerprints",
        "confurl",
        "setopt",
        "target",
        "frontend",
        "filename",
        "buildargs",
    ]
)
_NUMBERED_HEADER = re.compile(r"otherurl[0-9]+\Z")
_WITH_FROM = frozenset(
    ("docker", "localimage", "oras", "library", "shub", "oci", "oci-archive", "docker-archive", "docker-daemon")
)
_STAGE = re.compile(r"^bootstrap:", re.MULTILINE | re.IGNORECASE)
_VARIABLE = re.compile(r"{{\s*(\w+)\s*}}", re.ASCII)
_COMMENT = re.compile(r"\s*#[^!]\s*.*")
_WORDS = re.compile(r"""[^\s"']+|"[^"]*"|'[^']*'""")


@dataclass(frozen=True)
class Base:
    """The base of a stage: the bootstrap agent, and what follows its name in a URI (``From``, in full)."""

    agent: str
    source: str

    @property
    def uri(self) -> str:
        """The base as one word: ``docker://…``, ``localimage:/path``."""
        return f"{self.agent}:{'//' if self.agent in ('docker', 'oras', 'library', 'shub') else ''}{self.source}"


@dataclass(frozen=True)
class Stage:
    """One stage: its headers by lower-case name, its sections by name (``post``, ``apprun NAME``) with their text.

    ``files`` are the sources that ``%files`` and ``%appfiles`` copy from the host, as they are written.
    """

    headers: Mapping[str, str]
    sections: Mapping[str, str] = field(default_factory=dict)
    files: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name by which other stages call it; empty if it has none."""
        return self.headers.get("stage", "")

    @property
    def base(self) -> Base:
        """The base; ``Registry`` and ``Namespace`` stand before ``From`` (``conveyorPacker_oci.go``)."""
        agent = self.headers["bootstrap"]
        parts = [self.headers.get("from", "")]
        if agent == DOCKER:
            parts = [self.headers.get("registry", ""), self.headers.get("namespace", ""), *parts]
        return Base(agent, "/".join(filter(None, parts)))

    @property
    def runs_on_host(self) -> bool:
        """Tell whether it runs a script on the host before it copies files, which may be what makes these."""
        return any(self.sections.get(name, "").strip() for name in ("pre", "setup"))


@dataclass(frozen=True)
class Definition:
    """A definition with its build arguments put in: its text, as it will be in the image, and its stages."""

    text: str = field(repr=False)
    stages: tuple[Stage, ...]

    @property
    def bases(self) -> tuple[Base, ...]:
        """The bases of its stages, each once."""
        return tuple(dict.fromkeys(stage.base for stage in self.stages))


def parse(text: str, arguments: Mapping[str, str], what: str) -> Definition:
    """Read a definition, and put its build arguments in.

    :param what: names the definition in errors.
    :raises InvalidDefinition: if an engine would refuse it, or an argument has no value or no use.
    """
    fault = fault_of(arguments)
    if fault:
        raise InvalidDefinition(fault)
    rendered = []
    used: set[str] = set()
    for part in _parts(text.replace("\r\n", "\n")):
        defaults = _defaults(_sections(part, what).get("arguments", ""))
        rendered.append(_put_in(part, arguments, defaults, used, what))
    unused = sorted(set(arguments) - used)
    if unused:
        raise InvalidDefinition(
            f"{what} does not use the build argument {', '.join(unused)}; write it there as {{{{ {unused[0]} }}}}, "
            "or do not give it"
        )
    parsed = [(part, _stage(part, what)) for part in rendered]
    stages = tuple(stage for _part, stage in parsed if stage)
    if not stages:
        raise InvalidDefinition(f"{what} is empty; begin it with 'Bootstrap: docker' and 'From: IMAGE'")
    _check_stages(stages, what)
    return Definition("".join(part for part, stage in parsed if stage), stages)


def values_of(given: Mapping[str, object]) -> dict[str, str]:
    """Build arguments as texts, from what YAML makes of them.

    :raises InvalidDefinition: naming one that has no value, which would be the text ``None``, or several.
    """
    for name, value in given.items():
        if value is None or isinstance(value, (list, dict)):
            raise InvalidDefinition(
                f"the build argument {name} {'has no value' if value is None else 'is not a single value'}; give it a "
                "text, or leave it out, so that the definition's own value counts"
            )
    return {name: str(value) for name, value in given.items()}


def of_uri(uri: str) -> Definition:
    """Return the definition that stands for a URI such as ``oci:PATH``, as ``NewDefinitionFromURI`` makes it.

    :raises InvalidDefinition: if nothing follows the name of the agent.
    """
    agent, _colon, source = uri.partition(":")
    source = source[2:] if source.startswith("//") else source
    if not source:
        raise InvalidDefinition(f"the source {uri!r} names nothing after {agent + ':'!r}; write {agent}:SOURCE")
    headers = {"bootstrap": agent, "from": source}
    return Definition(f"bootstrap: {agent}\nfrom: {source}\n\n", (Stage(headers),))


def _parts(text: str) -> list[str]:
    """Split a text into its stages; the first part is the text above the first ``Bootstrap``, if there is any."""
    starts = [match.start() for match in _STAGE.finditer(text)]
    bounds = [0, *starts, len(text)]
    return [text[begin:end] for begin, end in zip(bounds, bounds[1:]) if end > begin]


def _lines(part: str) -> Iterator[tuple[str | None, str]]:
    """Yield each line of a stage with the heading of its section: None for a header, the line itself."""
    heading = None
    for line in part.split("\n"):
        if line.lstrip().startswith("%"):
            heading = line.strip()
        yield heading, line


def _sections(part: str, what: str) -> dict[str, str]:
    """Return the sections of a stage by name; a name twice is one section. ``%files`` keep their arguments."""
    sections: dict[str, str] = {}
    current = None
    for heading, line in _lines(part):
        if heading is None:
            continue
        if line.strip() == heading:
            current = _section_name(heading, what)
            sections.setdefault(current, "")
        elif current is not None:
            sections[current] += line + "\n"
    return sections


def _section_name(heading: str, what: str) -> str:
    words = heading.lstrip("%").split("#")[0].split()
    name = words[0].lower() if words else ""
    if name in _APP_SECTIONS:
        if len(words) < 2:
            raise InvalidDefinition(f"{what}: %{name} lacks the name of its app; write '%{name} NAME'")
        return f"{name} {words[1]}"
    if name not in _SECTIONS:
        known = ", ".join(f"%{section}" for section in sorted(_SECTIONS))
        raise InvalidDefinition(
            f"{what}: there is no section %{name}; the sections are {known} and those of apps. In a script, a line "
            "must not begin with '%'"
        )
    return " ".join([name, *words[1:]]) if name == "files" else name


def _stage(part: str, what: str) -> Stage | None:
    """Return a stage; None for a part that holds nothing but comments."""
    headers = _headers([line for heading, line in _lines(part) if heading is None], what)
    sections = _sections(part, what)
    if not headers and not sections:
        return None
    files: list[str] = []
    for name, text in sections.items():
        if name == "files" or name.startswith("appfiles "):
            files += _copied(text)
    return Stage(headers, sections, tuple(files))


def _headers(lines: Iterable[str], what: str) -> dict[str, str]:
    headers: dict[str, str] = {}
    continued: tuple[str, str] | None = None
    for raw in lines:
        line = raw.strip()
        if not line or line.startswith("#"):
            continued = None
            continue
        content = line.split("#")[0].strip()
        if continued:
            key, value = continued[0], continued[1] + content
        else:
            key, colon, value = content.partition(":")
            key, value = key.strip().lower(), value.strip()
            if not colon:
                raise InvalidDefinition(
                    f"{what}: the header line {line[:80]!r} is not KEYWORD: VALUE; what belongs to a section stands "
                    "below its %name"
                )
        continued = (key, value[:-1]) if value.endswith("\\") else None
        if key not in _HEADERS and not _NUMBERED_HEADER.match(key):
            raise InvalidDefinition(
                f"{what}: there is no header keyword {key[:80]!r}; for Docker images there are "
                "Bootstrap, From, Registry, Namespace, Stage"
            )
        headers[key] = value
    return headers


def _check_stages(stages: tuple[Stage, ...], what: str) -> None:
    names: list[str] = []
    for stage in stages:
        agent = stage.headers.get("bootstrap")
        if not agent:
            raise InvalidDefinition(
                f"{what} has no Bootstrap before its {_first_of(stage)}; each stage begins with 'Bootstrap: docker' or "
                "another agent, and nothing but comments stands above it"
            )
        if agent in _WITH_FROM and not stage.headers.get("from"):
            raise InvalidDefinition(f"{what} has 'Bootstrap: {agent}', but no From; name the image in 'From: IMAGE'")
        for name in stage.sections:
            words = name.split()
            if words[0] == "files" and len(words) == 3 and words[1] == "from" and words[2] not in names:
                raise InvalidDefinition(
                    f"{what} copies %files from the stage {words[2]!r}, but no stage above is called so with 'Stage: "
                    f"{words[2]}'"
                )
        names.append(stage.name)


def _first_of(stage: Stage) -> str:
    return next(iter(stage.headers), "").capitalize() or f"%{next(iter(stage.sections), '')}"


def _copied(text: str) -> Iterator[str]:
    """Yield the sources of the lines of a ``%files`` section, without their quotation marks."""
    for raw in text.split("\n"):
        line = raw.strip()
        if line and not line.startswith("#"):
            words = _WORDS.findall(line)
            if words:
                yield words[0].strip().strip('"')


def _defaults(text: str) -> dict[str, str]:
    """Return the values of ``%arguments``."""
    pairs = (line.strip().partition("=") for line in text.split("\n") if not line.strip().startswith("#"))
    return {name.strip(): value.strip() for name, equals, value in pairs if equals and name.strip()}


def _put_in(part: str, given: Mapping[str, str], defaults: Mapping[str, str], used: set[str], what: str) -> str:
    """Put build arguments in the place of their names, but not in comments; ``used`` learns which."""
    values = {**defaults, **given}
    pieces = []
    done = 0
    for match in _VARIABLE.finditer(part):
        newline = part.rfind("\n", done, match.start() + 1)
        if _COMMENT.search(part[max(newline, done) : match.start()]):
            continue
        name = match.group(1)
        if name not in values:
            raise InvalidDefinition(
                f"{what} uses the build argument {name}, which has no value; give it with build_args, or in the "
                "section %arguments of the same stage"
            )
        value = _VARIABLE.sub(lambda inner: values.get(inner.group(1), inner.group()), values[name])
        pieces += [part[done : match.start()], value]
        done = match.end()
        used.add(name)
    return "".join([*pieces, part[done:]])
