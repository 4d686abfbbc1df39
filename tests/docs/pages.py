"""Runs what the pages print: blocks of code that an HTML comment before them marks.

    <!-- file: model.py -->     the block is written to this file
    <!-- run -->                the block is run: commands of a shell, or a program in Python

A comment of several lines has code that comes before the block, for what a reader has and a test has not. All blocks of
a page run in one folder, in their order, with small budgets and on the CPU.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_MARKED = re.compile(
    r"^<!-- (?P<mark>run|file: [\w.]+)(?P<before>.*?)-->\n```(?P<language>\w*)\n(?P<code>.*?)^```",
    re.M | re.S,
)
BUDGETS = ("10s", "40s", "160s")
"""The next is taken where the one before did not last for the start: on a machine that others use."""
_SMALL = (
    (re.compile(r"--budget \w+"), f"--budget {BUDGETS[0]}"),
    (re.compile(r'budget="[^"]*"'), f'budget="{BUDGETS[0]}"'),
    (re.compile(r"--device cuda:0"), "--device cpu"),
)

_LIMIT = 400
"""Seconds after which a command is taken to hang, also on a machine that others use."""


@dataclass(frozen=True)
class Block:
    """A marked block; `file` is empty where it is run."""

    file: str
    language: str
    code: str


def blocks(text: str) -> list[Block]:
    """The marked blocks of a page, made small."""
    return [_block(found) for found in _MARKED.finditer(text)]


def _block(found: re.Match[str]) -> Block:
    file = found["mark"].removeprefix("file: ") if found["mark"] != "run" else ""
    code = found["before"].lstrip() + found["code"]
    for pattern, instead in _SMALL:
        code = pattern.sub(instead, code)
    return Block(file, found["language"], code)


def run(page: Path, folder: Path) -> list[str]:
    """Runs a page's blocks in `folder`; what each command or program printed."""
    printed: list[str] = []
    for block in blocks(page.read_text()):
        if block.file:
            (folder / block.file).write_text(block.code)
        elif block.language == "python":
            printed.append(_call([sys.executable, "-c", block.code], folder))
        else:
            commands = block.code.replace("\\\n", " ").splitlines()
            lines = [shlex.split(line, comments=True) for line in commands]
            printed += [_call(_command(line), folder) for line in lines if line]
    return printed


def _command(line: list[str]) -> list[str]:
    """`autoopt` and `python` are those of the tests."""
    own = {"autoopt": [sys.executable, "-m", "autoopt"], "python": [sys.executable]}
    assert line[0] in own, f"a page may run autoopt and python, not {line[0]}"
    return [*own[line[0]], *line[1:]]


def _call(command: list[str], folder: Path) -> str:
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": "", "COLUMNS": "120"}
    for budget in BUDGETS:
        told = [part.replace(BUDGETS[0], budget) for part in command]
        done = subprocess.run(
            told, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=_LIMIT
        )
        if "Start-up alone took longer than the budget" not in done.stderr:
            break
    assert done.returncode == 0, f"{shlex.join(told)}\n{done.stdout}\n{done.stderr}"
    return done.stdout
