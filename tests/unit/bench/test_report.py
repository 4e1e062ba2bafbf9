# Copyright: hpc.sregistry contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The benchmark's report: medians, promises, tables, document and plot."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from tests.bench import bounds, chart, contenders, playbooks, report
from tests.bench.results import Comparison, Image, Play, Plays, Results, Sample, Series
from tests.measure import record

SECONDS = {
    contenders.OURS: (3.0, 2.0, 40.0),
    contenders.WARM: (2.0,),
    contenders.LAYERS: (2.8,),
    contenders.FLOOR: (2.5,),
    contenders.DOWNLOAD: (0.5,),
    contenders.EXPERT: (9.5, 8.5),
    contenders.PULL: (31.0,),
}


def sample(seconds: float, **figures: int) -> Sample:
    return replace(Sample(seconds, 1.0, 76_000_000, 90_000_000, 200_000_000, 300_000_000, 104_000_000), **figures)  # type: ignore[arg-type]


def comparison(name: str = "compiler") -> Comparison:
    series = {
        key: Series(contenders.TITLES[key], [sample(seconds) for seconds in times]) for key, times in SECONDS.items()
    }
    series[contenders.PULL].samples[:] = [sample(31.0, size=100_000_000)]
    return Comparison(Image(name, "A compiler & an <application>", 3, 131_000_000), series)


def everything() -> Results:
    plays = {
        playbooks.PING: Plays("ping", [Play(0.8, 0.3)], 168_704),
        playbooks.ONE: Plays("one", [Play(1.0, 0.5)]),
        playbooks.HUNDRED: Plays("hundred", [Play(1.6, 1.3)]),
        playbooks.FACTS: Plays("facts", [Play(2.9, 2.4)]),
        playbooks.BESIDE: Plays("beside", [Play(1.1, 0.8)]),
    }
    return Results("2026-01-01", "make bench", {"processor": "a | b"}, [comparison(), comparison("files")], plays)


def test_a_series_is_known_by_its_median() -> None:
    series = comparison().series
    assert series[contenders.OURS].seconds == 3.0
    assert series[contenders.EXPERT].seconds == 9.0
    assert series[contenders.OURS].range == (2.0, 40.0)


def test_steps_are_medians_too_and_a_step_that_did_not_happen_took_no_time() -> None:
    samples = [replace(sample(1), phases=phases) for phases in ({"a": 1.0}, {"a": 3.0, "b": 4.0}, {"a": 2.0})]
    assert Series("x", samples).phases() == {"a": 2.0, "b": 0.0}


def test_results_survive_their_file(tmp_path: Path) -> None:
    record.write(everything(), tmp_path / "last.json")
    assert record.read(Results, tmp_path / "last.json") == everything()


@pytest.mark.parametrize(
    ("subject", "promise", "measured", "kept"),
    [
        ("compiler", "speed, against `apptainer pull`", "10.3 \u00d7", True),
        ("compiler", "speed, against `apptainer build` with zstd 3", "3.00 \u00d7", True),
        ("compiler", "time, against the floor", "1.20 \u00d7", True),
        ("compiler", "time with a warm cache, against a cold one", "0.67 \u00d7", True),
        ("compiler", "size of the SIF, above that of `apptainer pull`", "4.00 %", True),
        ("compiler", "peak memory of the module's process", "76.0 MB", True),
        ("Ansible", "1 unchanged image, against a ping; whole playbooks", "1.25 \u00d7", True),
        ("Ansible", "1 unchanged image, against a ping; the tasks alone", "1.67 \u00d7", False),
        ("Ansible", "100 unchanged images, against a ping; the tasks alone", "4.33 \u00d7", False),
        ("Ansible", "facts of 10,001 images; the task alone", "2.40 s", True),
        (
            "Ansible",
            "1 image recorded beside 10,000, against 1 unchanged alone; the tasks alone",
            "1.60 \u00d7",
            False,
        ),
    ],
)
def test_promises(subject: str, promise: str, measured: str, kept: bool) -> None:
    (found,) = (each for each in bounds.bounds(everything()) if (each.subject, each.promise) == (subject, promise))
    assert (found.measured, found.kept) == (measured, kept)


def test_small_files_may_be_five_times_as_fast_where_others_are_ten() -> None:
    limits = [each.limit for each in bounds.bounds(everything()) if each.promise == "speed, against `apptainer pull`"]
    assert limits == [10, 5]


def test_the_document_has_all_figures_and_says_what_was_missed() -> None:
    document = report.markdown(everything(), "plot.svg")
    assert "](plot.svg)" in document
    assert "| apptainer build, zstd 3 | 2 | 9.00 | 8.50 \u2026 9.50 | 3.00 |" in document
    assert "| ping | 1 | 0.80 | 1.00 | 0.30 | 1.00 | 169 |" in document
    assert "| one | 1 | 1.00 | 1.25 | 0.50 | 1.67 |  |" in document, "a run of before did not count what travels"
    assert document.count("MISSED") == 3
    assert "a \\| b" in document


def test_the_terminal_shows_an_unfinished_run() -> None:
    text = report.terminal(replace(everything(), plays={}))
    assert "apptainer pull" in text
    assert "Ansible" not in text


def test_the_plot_is_a_picture_with_words() -> None:
    space = {"svg": "http://www.w3.org/2000/svg"}
    root = ET.fromstring(chart.svg(everything()))
    title, description = (root.findtext(f"svg:{name}", namespaces=space) or "" for name in ("title", "desc"))
    assert "Seconds" in title
    assert "apptainer pull 31.0 s" in description
    rectangles = root.findall("svg:rect[@class='pull']", space)
    assert len(rectangles) == 2
    assert all(float(each.attrib["x"]) + float(each.attrib["width"]) < chart.PAPER.width for each in rectangles)
