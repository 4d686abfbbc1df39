"""What the repository says about itself is true: commands, links, examples in docstrings, dependencies."""

from __future__ import annotations

import ast
import doctest
import importlib
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.test_imports import MODULES

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def block(heading: str) -> str:
    """The first fenced block below a heading of the README."""
    text = (ROOT / "README.md").read_text()
    found = re.search(rf"^#+ {heading}$(?:(?!^#+ ).)*?^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert found, f"README.md has no command under the heading {heading!r}"
    return found[1]


# --- commands ---------------------------------------------------------------------------------------------


def test_ci_runs_the_second_command_as_printed() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert "readme_block 'Test it'" in script
    function = re.search(r"^readme_block\(\) \{.*?^\}", script, re.MULTILINE | re.DOTALL)
    assert function
    command = f"{function[0]}\nreadme_block 'Test it'"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == block("Test it")


def test_the_second_command_installs_and_tests() -> None:
    command = block("Test it")
    assert "-c constraints.txt" in command
    assert "[test]" in command
    assert re.search(r"\bpytest\b", command)


def test_the_first_command_profiles_an_example_that_is_there() -> None:
    command = block("Try it")
    assert "-c constraints.txt" in command
    profile = re.search(r"autoopt profile (\S+)(.*)", command)
    assert profile, command
    assert (ROOT / profile[1]).is_file()
    options = re.findall(r"--[a-z-]+", profile[2])
    done = subprocess.run(
        [sys.executable, "-c", "from autoopt.cli.main import main; main()", "profile", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert [option for option in options if option not in done.stdout] == []


# --- links and paths --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "page", [path for path in tracked() if path.suffix == ".md"], ids=lambda path: path.name
)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"(?:src|href)=\"([^\"]+)\"", text)
    local = [link.split("#")[0] for link in links if not re.match(r"[a-z]+:", link)]
    assert [link for link in local if link and not (page.parent / link).exists()] == []


def test_no_file_names_a_place_on_one_machine() -> None:
    place = re.compile(rb"(?<![\w./*])/(?:work|root)/")
    assert [path for path in tracked() if place.search(path.read_bytes())] == []


# --- docstrings -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["autoopt", *MODULES])
def test_examples_in_docstrings_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module(name)
    monkeypatch.chdir(tmp_path)
    assert doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE).failed == 0


# --- dependencies -----------------------------------------------------------------------------------------


def requirements() -> dict[str, list[Requirement]]:
    extras = PROJECT["optional-dependencies"]
    return {name: [Requirement(text) for text in texts] for name, texts in extras.items()} | {
        "": [Requirement(text) for text in PROJECT["dependencies"]]
    }


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pairs}


def test_constraints_pin_what_the_project_asks_for() -> None:
    pinned = pins()
    assert pinned["torch"] == "2.13.0"
    for requirement in (one for group in requirements().values() for one in group):
        name = canonicalize_name(requirement.name)
        if name != "autoopt":
            assert pinned[name] in requirement.specifier, requirement


def test_every_dependency_is_explained() -> None:
    page = (ROOT / "docs" / "dependencies.md").read_text()
    names = {one.name for group in requirements().values() for one in group if one.name != "autoopt"}
    assert {name for name in names if f"`{name}`" not in page} == set()


EXTRAS = {"daemon": "daemon", "cluster": "ray"}
"""Room -> the extra that its imports may come from."""


def test_what_is_imported_is_what_is_installed() -> None:
    """What is imported outside a function is a plain dependency, in the daemon of its extra; and each one is imported."""
    provided: dict[str, set[str]] = {}
    for module, distributions in metadata.packages_distributions().items():
        provided[module] = {canonicalize_name(name) for name in distributions}
    wanted = {extra: {canonicalize_name(one.name) for one in some} for extra, some in requirements().items()}
    anywhere, missing = set(), set()
    for path in (ROOT / "autoopt").rglob("*.py"):
        tree = ast.parse(path.read_text())
        anywhere |= {name for node in ast.walk(tree) for name in _imported(node)}
        at_load = {name for node in tree.body for name in _imported(node)}
        there = wanted[""] | wanted.get(EXTRAS.get(path.parent.name, ""), set())
        missing |= {
            (path.name, name)
            for name in at_load - {"autoopt"} - sys.stdlib_module_names
            if not provided.get(name, set()) & there
        }
    assert missing == set()
    used = set().union(*(provided.get(name, set()) for name in anywhere))
    assert wanted[""] - used == set()


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name.split(".")[0] for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
        return [node.module.split(".")[0]]
    return []
