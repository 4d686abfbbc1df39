"""CSV and Parquet: the same tables, whole or not at all."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from autoopt.errors import DiskFull, RunError, UsageError
from autoopt.export import export, staged
from autoopt.export.csv_file import CsvFile
from autoopt.export.exported import read
from autoopt.export.rows import rows
from tests.export import runs


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_csv_has_a_row_a_trial_and_its_curves_beside_it(folder: Path, tmp_path: Path) -> None:
    done = export(folder, csv=tmp_path / "sub" / "trials.csv")
    trials, points = table(tmp_path / "sub" / "trials.csv"), table(tmp_path / "sub" / "trials-curves.csv")
    results = runs.results()
    assert [int(row["trial"]) for row in trials] == [one.spec.id for one in results]
    assert [row["loss"] for row in trials] == ["" if r.loss is None else repr(r.loss) for r in results]
    assert [float(row["hyper_lr"]) for row in trials] == [one.spec.hyper["lr"] for one in results]
    assert trials[0]["began"] == "2023-11-14T22:13:30.000+00:00"
    assert [(int(p["trial"]), int(p["step"]), float(p["training_loss"])) for p in points] == [
        (one.spec.id, step, loss) for one in results for step, loss in one.curve
    ]
    assert done["written"][0]["points"] == len(points)


def test_parquet_has_the_same_with_types(folder: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    export(folder, parquet=tmp_path / "t.parquet")
    found = parquet.read_table(tmp_path / "t.parquet")
    expected = rows(read(folder))
    assert found.num_rows == len(expected)
    assert found.column("loss").to_pylist() == [row["loss"] for row in expected]
    assert str(found.schema.field("began").type) == "timestamp[ms, tz=UTC]"
    assert str(found.schema.field("reserved_bytes").type) == "int64", "also where all is unknown"
    assert parquet.read_table(tmp_path / "t-curves.parquet").num_rows > 100


def test_nothing_is_replaced_unless_asked(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "t-curves.csv").write_text("mine")
    with pytest.raises(RunError, match=r"t-curves\.csv is there already"):
        export(folder, csv=tmp_path / "t.csv")
    assert not (tmp_path / "t.csv").exists()
    export(folder, csv=tmp_path / "t.csv", overwrite=True)
    assert (tmp_path / "t-curves.csv").read_text().startswith("run,")


def test_all_targets_are_checked_before_one_is_written(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "study.db").write_text("a letter to my aunt")
    with pytest.raises(RunError, match="no SQLite database"):
        export(folder, csv=tmp_path / "t.csv", optuna=str(tmp_path / "study.db"))
    assert not (tmp_path / "t.csv").exists()
    with pytest.raises(UsageError, match="where to export"):
        export(folder)


def test_a_missing_package_names_the_extra(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package, option, extra in (
        ("pyarrow.parquet", {"parquet": tmp_path / "t"}, "parquet"),
        ("mlflow.tracking", {"mlflow": str(tmp_path / "m")}, "mlflow"),
        ("tensorboard.plugins.hparams.metadata", {"tensorboard": tmp_path / "b"}, "tensorboard"),
    ):
        parts = package.split(".")
        for i in range(1, len(parts) + 1):
            monkeypatch.setitem(sys.modules, ".".join(parts[:i]), None)
        with pytest.raises(UsageError, match=f"--{extra} needs {parts[0]}") as refused:
            export(folder, **option)  # type: ignore[arg-type]
        assert refused.value.hint == f"pip install 'autoopt[{extra}]'"


def test_a_full_disk_leaves_what_was_there(folder: Path, tmp_path: Path) -> None:
    """In a process that may write no file above 4 kB, which the system reports as an error."""
    old = tmp_path / "t-curves.csv"
    old.write_text("old")
    code = """
import resource, signal, sys
from autoopt.errors import RunError
from autoopt.export import export
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    export(sys.argv[1], csv=sys.argv[2], overwrite=True)
except RunError as error:
    print(error.message)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder), str(tmp_path / "t.csv")], capture_output=True, text=True
    )
    assert "could not be written: File too large. Nothing was changed there." in done.stdout, done.stderr
    assert old.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["digits", "t-curves.csv"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_what_ends_in_the_middle_leaves_nothing(error: BaseException, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "old").write_text("old")

    def half_a_file() -> None:
        with staged.file(tmp_path / "a") as beside:
            beside.write_text("half")
            beside.with_name(beside.name + "-journal").write_text("a journal")
            raise error

    def half_a_folder() -> None:
        with staged.folder(tmp_path / "b") as beside:
            (beside / "new").write_text("half")
            raise error

    for half in (half_a_file, half_a_folder):
        with pytest.raises(KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else DiskFull):
            half()
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
    assert (tmp_path / "b" / "old").read_text() == "old"


def test_ctrl_c_in_a_real_process_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    code = """
import sys
from autoopt.cli.main import run
from autoopt.export import tables
def rows(_):
    print("writing", flush=True)
    import time
    while True:
        yield [1]
        time.sleep(0.01)
tables.curves = lambda run: ({name: 1 for name in tables.CURVES} for _ in rows(run))
sys.exit(run(["export", sys.argv[1], "--csv", sys.argv[2]]))
"""
    with subprocess.Popen(
        [sys.executable, "-c", code, str(folder), str(tmp_path / "t.csv")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "writing\n"
            os.kill(process.pid, signal.SIGINT)
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()  # it would write for ever
    assert (process.returncode, said) == (130, "")
    assert [path.name for path in tmp_path.iterdir()] == ["digits"]


def test_a_file_is_checked_without_the_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is a folder"):
        CsvFile(tmp_path).check(None)  # type: ignore[arg-type]
