from __future__ import annotations

import os
import py_compile
import queue
import sys
from pathlib import Path

import pytest

from autoopt.errors import UserCodeError, WorkloadError
from autoopt.workload import load
from autoopt.workload.loading import Project, open_project
from tests.workload.files import PLAIN, write


@pytest.fixture
def open_(tmp_path: Path):
    found: list[Project] = []

    def opened(target: str, *args: str) -> Project:
        found.append(open_project(target, args))
        return found[-1]

    yield opened
    for project in reversed(found):
        project.undo()


def test_sibling_import_argv_and_working_directory(tmp_path, open_):
    write(tmp_path, "WIDTH = 7", "layers_beside.py")
    target = write(
        tmp_path,
        """
        import os, sys
        from layers_beside import WIDTH
        ARGV, CWD = list(sys.argv), os.getcwd()
        if __name__ == "__main__":
            raise RuntimeError("main ran")
        """,
    )
    argv, cwd = list(sys.argv), str(Path.cwd())
    module = open_(target, "--depth", "3").source
    assert module.WIDTH == 7
    assert [target, "--depth", "3"] == module.ARGV
    assert module.CWD == cwd == str(Path.cwd())
    assert sys.argv == argv
    assert sys.modules["model"] is module
    assert sys.path[0] == str(tmp_path)


def test_bytecode_of_an_earlier_text_is_not_run(tmp_path, open_):
    target = Path(write(tmp_path, "X = 1"))
    os.utime(target, (10**9, 10**9))
    py_compile.compile(str(target))
    target.write_text(target.read_text().replace("X = 1", "X = 2"))
    os.utime(
        target, (10**9, 10**9)
    )  # the same second, the same size: Python's own import takes the old bytecode
    assert open_(str(target)).source.X == 2


def test_undo_leaves_no_trace(tmp_path):
    write(tmp_path, "X = 1", "layers_gone.py")
    target = write(tmp_path, "import layers_gone")
    path, modules = list(sys.path), set(sys.modules)
    project = open_project(target)
    assert sorted(p.name for p in project.modules().values()) == ["layers_gone.py", "model.py"]
    project.undo()
    assert sys.path == path
    assert set(sys.modules) == modules


def test_two_projects_with_the_same_names_do_not_mix(tmp_path, open_):
    one = write(tmp_path / "one", "X = 1")
    two = write(tmp_path / "two", "X = 2")
    first, second = open_(one).source, open_(two).source
    assert (first.X, second.X) == (1, 2)
    assert second.__name__ == "two.model"


def test_relative_imports_without_and_with_init(tmp_path, open_):
    write(tmp_path, "from .base import WIDTH", "loose/parts.py")
    write(tmp_path, "WIDTH = 5", "loose/base.py")
    assert open_(write(tmp_path, "from .parts import WIDTH", "loose/model.py")).source.WIDTH == 5
    write(tmp_path, "", "package/__init__.py")
    write(tmp_path, "DEPTH = 6", "package/common.py")
    write(tmp_path, "", "package/inner/__init__.py")
    found = open_(write(tmp_path, "from ..common import DEPTH", "package/inner/model.py"))
    assert found.source.DEPTH == 6
    assert found.source.__name__ == "package.inner.model"


def test_a_name_of_the_standard_library_stays_in_its_place(tmp_path, open_):
    target = write(tmp_path / "project", "MINE = True", "queue.py")
    module = open_(target).source
    assert module.MINE
    assert sys.modules["queue"] is queue
    assert module.__name__ == "project.queue"


def test_function_of_a_module_with_arguments(tmp_path, open_, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", str(Path.cwd()))])
    write(tmp_path, "", "zoo_pkg/__init__.py")
    write(
        tmp_path,
        """
        def experiment(width, depth="2", ctx=None):
            return {"width": width, "depth": depth, "args": ctx.args}
        def by_list(args):
            return {"args": args}
        class box:
            build_model = staticmethod(lambda: None)
        """,
        "zoo_pkg/nets.py",
    )
    assert open_("zoo_pkg.nets:experiment", "64").source == {"width": "64", "depth": "2", "args": ("64",)}
    assert open_("zoo_pkg.nets:by_list", "a", "b").source == {"args": ["a", "b"]}
    with pytest.raises(WorkloadError, match="takes 2 arguments and 3 follow"):
        open_("zoo_pkg.nets:experiment", "1", "2", "3")
    with pytest.raises(WorkloadError, match="there is no 'experimnet'"):
        open_("zoo_pkg.nets:experimnet")
    with pytest.raises(WorkloadError, match=r"no module zoo_pkg\.missing"):
        open_("zoo_pkg.missing:experiment")


def test_function_of_a_file(tmp_path, open_):
    target = write(tmp_path, "def make():\n    return {'build_model': 1}\ndef none():\n    pass")
    assert open_(f"{target}:make").source == {"build_model": 1}
    with pytest.raises(WorkloadError, match=r"none\(\) returned None"):
        open_(f"{target}:none")


def test_constants_of_a_file_hold_for_what_its_function_gives(tmp_path):
    code = """
    STEPS, CLIP = 77, 2.0
    from torch import nn
    class Given:
        CLIP = 3.0
        def build_model(self): return nn.Linear(1, 1)
        def train_dataloader(self): return [1.0]
        def loss(self, model, batch): return model.weight.sum()
    def make(): return Given()
    """
    workload = load(f"{write(tmp_path, code)}:make")
    try:
        assert (workload.settings.steps, workload.settings.clip) == (77, 3.0)  # nearer ones win
    finally:
        workload.close()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.py", "does not exist"),
        ("notes.ipynb", "is a notebook"),
        (".", "is a folder"),
        ("a.b.py", "a dot"),
    ],
)
def test_targets_that_cannot_be(tmp_path, name, message):
    write(tmp_path, "", "a.b.py")
    with pytest.raises(WorkloadError, match=message) as caught:
        open_project(str(tmp_path / name))
    assert caught.value.hint


def test_a_word_that_is_nothing():
    with pytest.raises(WorkloadError, match="neither a file nor module:function"):
        open_project("something_unheard_of")


def test_syntax_error_names_its_line(tmp_path):
    target = write(tmp_path, "x = 1\ndef f(:\n    pass\n")
    with pytest.raises(UserCodeError, match=r"^model.py:2 raised SyntaxError: ") as caught:
        open_project(target)
    assert caught.value.where == f"{target}:2"


def test_failing_import_is_undone_and_named(tmp_path):
    target = write(tmp_path, "import os\nimport not_there_at_all\n")
    before = set(sys.modules), list(sys.path)
    with pytest.raises(UserCodeError, match=r"^model.py:2 raised ModuleNotFoundError: No module") as caught:
        open_project(target)
    assert "environment" in caught.value.hint
    assert (set(sys.modules), list(sys.path)) == before


def test_data_drawn_at_import_is_the_same_each_time(tmp_path):
    target = write(tmp_path, "import torch, random\nX = (torch.rand(1).item(), random.random())")
    drawn = []
    for _ in range(2):
        project = open_project(target)
        drawn.append(project.source.X)
        project.undo()
    assert drawn[0] == drawn[1]


WITH_WORKERS = PLAIN.replace(
    "def train_dataloader():",
    """
class Squares(torch.utils.data.Dataset):
    def __len__(self):
        return 12
    def __getitem__(self, index):
        return torch.full((3,), float(index)), torch.rand(1)

def train_dataloader():
    return DataLoader(Squares(), 4, num_workers=2, multiprocessing_context=METHOD)

def unused():
""",
)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_loader_workers_find_the_users_classes(opened, method):
    workload = opened(WITH_WORKERS.replace("METHOD", repr(method)))
    epoch = list(workload.train_source.epoch(0, 0))
    assert sum(len(x) for x, _ in epoch) == 11  # one of twelve is held out


@pytest.mark.parametrize("name", ["build_model", "train_dataloader", "loss"])
def test_what_is_missing_comes_with_the_name_that_was_written_instead(opened, name):
    slip = name[:-1]
    with pytest.raises(WorkloadError) as caught:
        opened(PLAIN.replace(f"def {name}(", f"def {slip}(")).report(quick=True)
    assert caught.value.hint.startswith(f"{slip} is not used. Is {name} meant? ")


def test_a_slip_in_a_name_is_told(opened):
    text = (
        PLAIN
        + "\nimport torch.nn.functional as losses\nSCHEDUL = 'cosine'\ndef val_dataloaders(): ...\ndef resets(m): ...\n"
    )
    notes = "\n".join(opened(text).notes)
    assert "SCHEDUL is not used. Is SCHEDULE meant?" in notes
    assert "val_dataloaders is not used. Is val_dataloader meant?" in notes
    assert "losses" not in notes  # a module that was imported
    assert "not used" not in "\n".join(opened(PLAIN).notes)
