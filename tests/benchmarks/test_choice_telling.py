from __future__ import annotations

from dataclasses import dataclass

import pytest

from benchmarks import results
from benchmarks.choice import telling


@dataclass
class Found:
    workload: str


def test_what_is_held_out_comes_second_and_an_empty_part_not_at_all() -> None:
    found = [Found("recurrent"), Found("vit"), Found("conv"), Found("conv")]
    told = [telling.title(held, some) for held, some in telling.parts(found)]
    assert told == ["Workloads open to tuning: conv, vit", "Held out: recurrent"]
    assert [held for held, _ in telling.parts(found[1:])] == [False]


def test_a_table_has_a_column_for_every_cell() -> None:
    assert (
        telling.table(["tuner", "regret"], [["ours", "0.1"]])
        == "| tuner | regret |\n|---|---|\n| ours | 0.1 |"
    )


def test_a_record_names_the_command_that_repeats_it(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[str] = []
    monkeypatch.setattr(results, "append", kept.append)
    parser = telling.parser("python -m it", "What it does.\n\nMore.", budgets=[0.3, 1.0])
    telling.tell(
        "Title", "python -m it", parser.parse_args(["--record", "--tunings", "3"]), "text", " --only conv"
    )
    assert "## Title, " in kept[0]
    assert kept[0].endswith("    python -m it --budgets 0.3 1 --tunings 3 --only conv\n\ntext")


def test_without_it_the_text_is_printed_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(results, "append", lambda text: pytest.fail("nobody asked for a record"))
    telling.tell("Title", "it", telling.parser("it", None, budgets=[1.0]).parse_args([]), "text")
    assert capsys.readouterr().out == "text\n"
