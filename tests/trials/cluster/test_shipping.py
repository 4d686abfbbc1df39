from pathlib import Path

import pytest

from autoopt.errors import UserCodeError
from autoopt.trials.cluster.shipping import Shipment, with_way_to_files


def test_a_file_goes_with_its_folder(tmp_path: Path) -> None:
    (tmp_path / "model.py").touch()
    assert Shipment.of(str(tmp_path / "model.py")) == Shipment(tmp_path.resolve(), "model.py")
    assert Shipment.of(f"{tmp_path}/model.py:make").target == "model.py:make"


def test_a_file_in_a_package_goes_with_the_outermost_one(tmp_path: Path) -> None:
    inner = tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    for folder in (inner, inner.parent):
        (folder / "__init__.py").touch()
    (inner / "model.py").touch()
    assert Shipment.of(str(inner / "model.py")) == Shipment(tmp_path.resolve(), "outer/inner/model.py")


def test_a_larger_folder_of_the_users(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "model.py").touch()
    assert Shipment.of(str(tmp_path / "src" / "model.py"), tmp_path).target == "src/model.py"


def test_a_module_goes_with_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Shipment.of("pkg.task:make") == Shipment(tmp_path.resolve(), "pkg.task:make")


def test_what_is_missing_on_a_machine_is_told_with_what_was_shipped() -> None:
    missing = UserCodeError(
        "model.py:1 raised FileNotFoundError: [Errno 2] ...", "a trace", where="model.py:1"
    )
    told = with_way_to_files(missing, Path("/home/me/project"))
    assert told.hint.startswith("a trace\n")
    assert "/home/me/project" in told.hint
    assert "--ship" in told.hint
    assert told.where == "model.py:1"
    other = UserCodeError("model.py:1 raised ZeroDivisionError: ...")
    assert with_way_to_files(other, Path("/home/me/project")) is other
