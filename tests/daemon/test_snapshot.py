from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from autoopt.daemon.commands import check_sent
from autoopt.daemon.jobs import Options, Submission
from autoopt.daemon.snapshot import adopt, changes, in_users_words, read, take
from autoopt.errors import UsageError, WorkloadError


@pytest.fixture
def job(tmp_path: Path) -> Path:
    (tmp_path / "job").mkdir()
    return tmp_path / "job"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository with a package, a script in it, and data beside it."""
    root = tmp_path / "repo"
    for name, text in {
        "pyproject.toml": "",
        "experiments/model.py": "import helper\nfrom net.blocks import block\nimport torch\n",
        "experiments/helper.py": "import importlib\nimportlib.import_module('late')\n",
        "experiments/late.py": "import broken\n",
        "experiments/broken.py": "def (:\n",
        "experiments/unused.py": "",
        "experiments/net/__init__.py": "",
        "experiments/net/blocks.py": "from . import sizes\nfrom .sizes import WIDTH\n",
        "experiments/net/sizes.py": "WIDTH = 3\n",
        "experiments/data/x.npz": "data",
        "data/y.npz": "data",
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


CODE = {
    "experiments/model.py",
    "experiments/helper.py",
    "experiments/late.py",
    "experiments/broken.py",
    "experiments/net/__init__.py",
    "experiments/net/blocks.py",
    "experiments/net/sizes.py",
}


def test_the_code_is_copied_and_the_rest_is_linked(project: Path, job: Path) -> None:
    snapshot = take("experiments/model.py", project, job)
    assert set(snapshot.files) == CODE
    model = Path(snapshot.target)
    assert model == job / "project" / "experiments" / "model.py"
    for name in CODE:
        copy = job / "project" / name
        assert not copy.is_symlink()
        assert copy.read_text() == (project / name).read_text()
    # What the code finds beside itself, also when it resolves its own path first.
    assert (model.resolve().parent / "data" / "x.npz").read_text() == "data"
    assert (model.resolve().parents[1] / "data" / "y.npz").read_text() == "data"
    assert (model.parent / "unused.py").is_symlink()
    assert snapshot.cwd == str(project)
    assert read(job) == snapshot


def test_a_home_inside_the_project_is_not_linked_into_its_own_copies(project: Path) -> None:
    job = project / "experiments" / "state" / "jobs" / "a"
    job.mkdir(parents=True)
    take("experiments/model.py", project, job)
    there = job / "project" / "experiments"
    assert (there / "data" / "x.npz").read_text() == "data"
    assert not (there / "state").exists()


def test_what_has_changed_is_said(project: Path, job: Path) -> None:
    snapshot = take("experiments/model.py", project, job)
    assert changes(snapshot) == []
    (project / "experiments" / "helper.py").write_text("")
    (project / "experiments" / "late.py").unlink()
    (project / "experiments" / "unused.py").write_text("used by nobody")
    assert changes(snapshot) == ["experiments/helper.py was edited", "experiments/late.py is gone"]
    assert (job / "project" / "experiments" / "helper.py").read_text() != ""


def test_the_digest_is_of_the_code_only(project: Path, tmp_path: Path) -> None:
    digests = []
    for edit in (None, "data/y.npz", "experiments/net/sizes.py"):
        if edit:
            (project / edit).write_text("other")
        folder = tmp_path / f"job-{len(digests)}"
        folder.mkdir()
        digests.append(take("experiments/model.py", project, folder).digest)
    assert digests[0] == digests[1] != digests[2]


def test_a_function_after_the_file_is_kept(project: Path, job: Path) -> None:
    snapshot = take("experiments/model.py:make", project, job)
    assert snapshot.target == str(job / "project" / "experiments" / "model.py") + ":make"


def test_a_module_is_looked_for_in_the_working_directory(project: Path, job: Path) -> None:
    snapshot = take("net.blocks:make", project / "experiments", job)
    assert set(snapshot.files) == {"net/__init__.py", "net/blocks.py", "net/sizes.py"}
    assert (snapshot.target, snapshot.cwd) == ("net.blocks:make", str(job / "project"))


def test_an_installed_package_has_nothing_to_copy(project: Path, job: Path) -> None:
    snapshot = take("installed.package:make", project, job)
    assert (snapshot.files, snapshot.digest, changes(snapshot)) == ({}, "", [])
    assert snapshot.cwd == str(project)


def test_without_a_repository_the_files_folder_is_the_project(tmp_path: Path, job: Path) -> None:
    lone = tmp_path / "lone"
    lone.mkdir()
    (lone / "model.py").write_text("import helper\n")
    (lone / "helper.py").write_text("import os\n")
    assert set(take(str(lone / "model.py"), tmp_path, job).files) == {"model.py", "helper.py"}


def test_a_file_that_is_not_there(tmp_path: Path, job: Path) -> None:
    with pytest.raises(WorkloadError, match=r"model.py does not exist"):
        take("model.py", tmp_path, job)


def test_a_project_that_was_sent_is_the_jobs(project: Path, job: Path, tmp_path: Path) -> None:
    sent = tmp_path / "sent"
    shutil.copytree(project, sent)
    snapshot = adopt("experiments/model.py", sent, job)
    assert not sent.exists()
    assert Path(snapshot.target).read_text() == (project / "experiments" / "model.py").read_text()
    assert snapshot.digest
    assert changes(snapshot) == []
    with pytest.raises(UsageError, match="not inside the project"):
        adopt("../model.py", project, job)
    with pytest.raises(WorkloadError, match=r"no absent.py"):
        adopt("absent.py", project, job)


def test_what_was_sent_names_nothing_outside(project: Path) -> None:
    def given(**options: object) -> Submission:
        return Submission(target="m.py", options=Options.model_validate(options))

    (project / "mine.yaml").write_text("")
    check_sent(given(policy="balanced"), project)
    check_sent(given(policy="mine.yaml", prior=["data"]), project)
    for bad in ({"policy": "/etc/passwd"}, {"policy": "../x.yaml"}, {"prior": ["/tmp"]}, {"prior": [".."]}):
        with pytest.raises(UsageError, match="not in the project"):
            check_sent(given(**bad), project)


def test_errors_name_the_users_own_file(project: Path, job: Path) -> None:
    snapshot = take("experiments/model.py", project, job)
    text = f"{snapshot.target}:12 raised"
    assert in_users_words(text, snapshot, job) == f"{project}/experiments/model.py:12 raised"
