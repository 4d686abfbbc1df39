"""A C file is compiled once, kept on disk, and what stands in the way is said with the way out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from autoopt.optim.compiled.compiler import CompilerError, build, cache, compiler

STEP = """
import torch
from autoopt.optim import Adan, SGDSaI
for make in (Adan, SGDSaI):
    for fused in (None, True):
        p = torch.nn.Parameter(torch.ones(4))
        p.grad = torch.arange(4.0)
        optimizer = make([p], fused=fused)
        try:
            optimizer.step()
            print(make.__name__, fused, "moved" if p.detach().ne(1).any() else "stayed")
        except RuntimeError as error:
            print(make.__name__, fused, error)
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "seven.c"
    path.write_text("int seven(void) { return 7; }\n")
    return path


def in_process(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_the_second_build_finds_the_first_on_disk(source: Path, tmp_path: Path) -> None:
    first, second = build(source, tmp_path / "kept"), build(source, tmp_path / "kept")
    assert first.seconds > 0
    assert second.seconds == 0
    assert first.library.seven() == second.library.seven() == 7
    assert [path.suffix for path in (tmp_path / "kept").iterdir()] == [".so"]


def test_another_source_is_another_library(source: Path, tmp_path: Path) -> None:
    build(source, tmp_path / "kept")
    source.write_text("int seven(void) { return 8; }\n")
    assert build(source, tmp_path / "kept").library.seven() == 8


def test_a_damaged_library_is_made_anew(source: Path, tmp_path: Path) -> None:
    build(source, tmp_path / "kept")
    (kept,) = (tmp_path / "kept").iterdir()
    kept.unlink()
    kept.write_bytes(b"not a library")
    again = build(source, tmp_path / "kept")
    assert again.seconds > 0
    assert again.library.seven() == 7
    assert kept.read_bytes() != b"not a library"


def test_a_folder_that_cannot_be_written_costs_the_cache_only(source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for _ in range(2):
        made = build(source, tmp_path / "file" / "kept")
        assert made.seconds > 0
        assert made.library.seven() == 7


def test_processes_that_build_at_once_all_succeed(source: Path, tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from autoopt.optim.compiled.compiler import build; "
        f"print(build(Path({str(source)!r}), Path({str(tmp_path / 'kept')!r})).library.seven())"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    assert [process.communicate()[0].strip() for process in running] == ["7"] * 3
    assert len(list((tmp_path / "kept").iterdir())) == 1


def test_what_the_compiler_says_is_passed_on(source: Path, tmp_path: Path) -> None:
    source.write_text("int seven(void) { return unheard_of; }\n")
    with pytest.raises(CompilerError, match="unheard_of"):
        build(source, tmp_path / "kept")


def test_a_named_compiler_that_is_absent_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler -O1")
    with pytest.raises(CompilerError, match=r"\$CC is 'no-such-compiler'.*fused=None"):
        compiler()


def test_a_named_compiler_keeps_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", f"{compiler()[0]} -g")
    assert compiler()[1:] == ["-g"]


def test_the_cache_can_be_placed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AUTOOPT_CACHE", str(tmp_path))
    assert cache() == tmp_path / "kernels"


def test_without_a_compiler_the_default_works_and_fused_says_what_to_do(tmp_path: Path) -> None:
    out = in_process(STEP, PATH=str(tmp_path), AUTOOPT_CACHE=str(tmp_path), CC="").splitlines()
    assert out[0] == "Adan None moved"
    assert out[2] == "SGDSaI None moved"
    for line, name in ((out[1], "Adan"), (out[3], "SGDSaI")):
        assert line.startswith(f"{name} True fused=True needs a C compiler")
        assert line.endswith("leave fused=None: pure torch.")


@pytest.mark.long
def test_a_new_process_uses_what_an_earlier_one_compiled(tmp_path: Path) -> None:
    code = "from autoopt.optim.compiled.library import built; print(built().seconds > 0)"
    fresh = in_process(code, AUTOOPT_CACHE=str(tmp_path))
    later = in_process(STEP + code, AUTOOPT_CACHE=str(tmp_path)).splitlines()
    assert fresh == "True\n"
    assert later[-1] == "False"
    assert "Adan True moved" in later
