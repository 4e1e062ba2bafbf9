# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report: tables for the terminal, and ``docs/benchmarks.md``. Every figure comes from the run."""

from __future__ import annotations

from tests.bench import bounds, contenders
from tests.bench.results import Comparison, Results, Series
from tests.measure.figures import KILOBYTE, TIMES, decimal, megabytes
from tests.measure.table import Table

HEADS = ("runs", "median s", "from … to", f"{TIMES} ours", "CPU s", "process MB", "all MB", "written MB", "result MB")


def terminal(results: Results) -> str:
    """Return all tables, one after the other."""
    rows = [(each.image.name, *row) for each in results.comparisons for row in _rows(each)]
    parts = [Table(("image", "command", *HEADS), rows, texts=2).text()]
    if results.plays:
        parts.append(_plays(results).text())
    parts.append(_bounds(results).text())
    return "\n\n".join(parts) + "\n"


def markdown(results: Results, chart: str) -> str:
    """Return the document; ``chart`` is the file name of the plot beside it."""
    parts = [_INTRODUCTION.format(date=results.date, chart=chart, alternative=_summary(results))]
    parts += ["## What is promised, and what was measured", _PROMISES, _bounds(results).markdown()]
    parts += ["## Images", _images(results)]
    for each in results.comparisons:
        parts += [f"### {each.image.name}", f"{each.image.title}.", Table(("command", *HEADS), _rows(each)).markdown()]
        if phases := _phases(each):
            parts.append(phases)
    if results.plays:
        parts += ["## Through Ansible", _THROUGH_ANSIBLE, _plays(results).markdown()]
    machine = Table(("what", "is"), list(results.machine.items()), texts=2)
    parts += ["## Commands", _commands(), "## How it is measured", _METHOD]
    parts += ["## The machine", machine.markdown()]
    parts += ["## Again", f"```bash\n{results.command}\n```", _AGAIN]
    return "\n\n".join(parts) + "\n"


def _rows(comparison: Comparison) -> list[tuple[str, ...]]:
    ours = comparison.series[contenders.OURS]
    return [(series.title, *_figures(key, series, ours)) for key, series in comparison.series.items()]


def _figures(key: str, series: Series, ours: Series) -> list[str]:
    fewest, most = series.range
    # The process that was started is a shell there, and says nothing.
    own = "-" if key == contenders.FLOOR else megabytes(series.median(lambda sample: sample.own_memory))
    return [
        str(series.runs),
        decimal(series.seconds),
        f"{decimal(fewest)} … {decimal(most)}",
        f"{series.seconds / ours.seconds:.2f}",
        decimal(series.median(lambda sample: sample.cpu_seconds)),
        own,
        megabytes(series.median(lambda sample: sample.memory)),
        megabytes(series.median(lambda sample: sample.written)),
        megabytes(series.median(lambda sample: sample.size)),
    ]


def _bounds(results: Results) -> Table:
    return Table.of(
        bounds.bounds(results),
        ("of", lambda bound: bound.subject),
        ("promise", lambda bound: bound.promise),
        ("is", lambda bound: "kept" if bound.kept else "MISSED"),
        ("measured", lambda bound: bound.measured),
        ("promised", lambda bound: bound.wanted),
        texts=3,
    )


def _plays(results: Results) -> Table:
    first = next(iter(results.plays.values()))
    return Table.of(
        results.plays.values(),
        ("task", lambda plays: plays.title),
        ("runs", lambda plays: str(len(plays.plays))),
        ("playbook s", lambda plays: decimal(plays.run)),
        (f"{TIMES} ping", lambda plays: f"{plays.run / first.run:.2f}"),
        ("task s", lambda plays: decimal(plays.task)),
        (f"{TIMES} ping", lambda plays: f"{plays.task / first.task:.2f}"),
        ("kB to the host", lambda plays: "" if plays.sent is None else f"{plays.sent / KILOBYTE:.0f}"),
    )


def _phases(comparison: Comparison) -> str:
    """Return the times that the module itself reports for its steps."""
    lines = []
    for key in (contenders.OURS, contenders.WARM, contenders.LAYERS):
        series = comparison.series[key]
        phases = {name: seconds for name, seconds in series.phases().items() if name != "total"}
        if phases:
            lines.append(
                f"Steps of {series.title}: " + ", ".join(f"{name} {decimal(s)} s" for name, s in phases.items()) + "."
            )
    return "\n\n".join(lines)


def _images(results: Results) -> str:
    return Table.of(
        [each.image for each in results.comparisons],
        ("image", lambda image: image.name),
        ("what it is", lambda image: image.title),
        ("layers", lambda image: str(image.layers)),
        ("compressed MB", lambda image: megabytes(image.compressed)),
        texts=2,
    ).markdown()


def _commands() -> str:
    rows = [(contenders.TITLES[key], f"`{contenders.COMMANDS[key]}`", text) for key, text in _ABOUT.items()]
    return Table(("name", "command", "what it is"), rows, texts=3).markdown()


def _summary(results: Results) -> str:
    """Describe the plot in a sentence."""
    parts = []
    for each in results.comparisons:
        ours, pull = each.series[contenders.OURS], each.series[contenders.PULL]
        parts.append(f"{each.image.name} {decimal(ours.seconds)} s against {decimal(pull.seconds)} s")
    return f"Median times of hpc.sregistry and apptainer pull: {', '.join(parts)}"


_ABOUT = {
    contenders.OURS: "The file that Ansible sends to the host and starts there. Neither layers nor image are there "
    "before.",
    contenders.WARM: "The same after the image was deleted: the cache gives it back.",
    contenders.LAYERS: "The same where the cache has nothing but the layers, as when it is on another file system than "
    "the image.",
    contenders.FLOOR: "The layers, which are on disk already, are decompressed and packed. Nothing is downloaded, "
    "verified or removed, and no SIF is made.",
    contenders.DOWNLOAD: "The download alone, into an OCI layout.",
    contenders.EXPERT: "What somebody would type who knows that the default compression is slow.",
    contenders.PULL: "What most people type.",
}

_INTRODUCTION = """\
<!-- Written by "make bench". Change tests/bench instead of this file. -->

# Benchmarks

How long it takes from a name in a registry to a SIF file, measured on {date} on one machine, which is named below. All
times are wall times of whole processes, interpreter start included; each is the median of several runs.

![{alternative}]({chart})"""

_PROMISES = """\
No test checks this: a busy machine is no defect. A promise that was missed is a reason to look."""

_THROUGH_ANSIBLE = """\
A task that has nothing to do, beside `ansible.builtin.ping` of the same host over the same open SSH connection, with
pipelining. "Playbook" is a whole run of `ansible-playbook` without gathering facts; "task" is the time from its start
to its result as the controller sees it. The registry is asked for each image in each run (`pull: always`). What
travels to the host is the commands and the module, before SSH encrypts them."""

_METHOD = """\
- The commands of an image run in turn, in each round in another order, so that whatever else the machine does meets
  all of them alike. A command that takes long is run less often, at least twice; the tables say how often.
- Before each run, what the command makes is removed (cache, image, inventory; the image alone for a warm cache) and
  `sync` is called. That is not measured. Nobody drops the page cache: it is the same for all.
- The registry is on the same machine, so the download is as fast as it can be. Over a real network all ways but the
  floor take longer, unless they fetch while they pack.
- The paths in the images that ours, Apptainer, and the floor made are compared.
- **CPU** is the user and system time of the process and all its children.
- **Process** is the peak resident memory of the process that was started (`VmHWM`): for hpc.sregistry, the Python
  interpreter with the module. **All** is the largest sum of resident memory of it and all its children at one moment,
  looked at 20 times a second; pages that processes share count for each.
- **Written** is what the process and its children gave to the file system (`write_bytes` of `/proc/PID/io`), whether it
  is still there in the end or not. A page counts when it becomes dirty, so it need not have reached the disk.
- **Result** is the size of the SIF file; for the floor that of the squashfs, for skopeo that of the OCI layout.
- MB are 1,000,000 bytes."""

_AGAIN = """\
It takes about 25 minutes, and some more when the images have to be built first. `RUNS=1 IMAGES=compiler` makes it short
and leaves this file alone. `make bench ARGS=report` writes the report of the last run once more."""
