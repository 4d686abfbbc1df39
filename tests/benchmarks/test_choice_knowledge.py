"""What the planner knows of other networks is what the committed tables say."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autoopt.tuning.knowledge import Knowledge, Network, folder, read, shipped
from benchmarks.choice import HELD_OUT
from benchmarks.choice.knowledge import FILE, learned, written
from benchmarks.choice.replay import known_without
from benchmarks.choice.surface import surfaces


@pytest.fixture(scope="module")
def known() -> Knowledge:
    """Of the tables, with the networks as the file describes them: to count their parameters takes seconds."""
    made = learned(s for n, s in surfaces().items() if n not in HELD_OUT)
    return replace(made, networks={n: shipped().networks[n] for n in made.networks})


def test_the_shipped_file_is_what_the_tables_say(known: Knowledge) -> None:
    assert (folder() / FILE).read_text(encoding="utf-8") == written(known)


def test_lengths_of_full_runs_are_the_tables() -> None:
    steps = {n: s.steps for n, s in surfaces().items()}
    assert {n: w.steps for n, w in shipped().networks.items()} == {n: steps[n] for n in shipped().networks}


def test_nothing_that_is_held_out_is_known() -> None:
    assert HELD_OUT
    assert not set(HELD_OUT) & set(shipped().networks)
    assert set(surfaces()) - set(HELD_OUT) == set(shipped().networks)


def test_a_replay_does_not_know_the_workload_it_is_scored_on() -> None:
    for name in shipped().networks:
        for form in (name, f"long_{name}"):
            assert set(known_without(form).networks) == set(shipped().networks) - {name}


def test_what_is_written_is_read_back(tmp_path) -> None:  # type: ignore[no-untyped-def]
    made = Knowledge(
        {"toy": Network("A toy", 12, 80)},
        {("toy", "adamw"): {0.0: ((-3.0, 0.125), (-2.0, 0.0), (-1.0, None))}},
    )
    path = tmp_path / "toy.yaml"
    path.write_text(written(made), encoding="utf-8")
    assert read(path) == made
