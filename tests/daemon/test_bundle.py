"""Archives of strangers: what is whole arrives, what would do harm does not, and leaves nothing behind."""

from __future__ import annotations

import gzip
import io
import os
import stat
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoopt.daemon.bundle import BadBundle, Limits, pack, unpack
from autoopt.errors import RunError, UsageError


def zip_of(path: Path, **files: bytes | str) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in files.items():
            zipped.writestr(name, content)
    return path


def tar_of(path: Path, *entries: tarfile.TarInfo, mode: str = "w:gz", content: bytes = b"") -> Path:
    with tarfile.open(path, mode) as tar:
        for entry in entries:
            if entry.isreg():
                entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


def entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, target
    return made


def refused(archive: Path, tmp_path: Path, because: str, limits: Limits | None = None) -> None:
    with pytest.raises(BadBundle, match=because):
        unpack(archive, tmp_path / "out", limits or Limits())
    assert not (tmp_path / "out").exists()
    assert {path.name for path in tmp_path.iterdir()} <= {archive.name}


def test_a_project_arrives_as_it_was(tmp_path: Path) -> None:
    root = tmp_path / "project"
    (root / "pkg" / "ünïcode").mkdir(parents=True)
    (root / "model.py").write_text("print(1)")
    (root / "pkg" / "ünïcode" / "d\nata.npz").write_bytes(os.urandom(300_000))
    for left_out in (".git/config", "__pycache__/model.pyc", "autoopt-out/x", ".env"):
        (root / left_out).parent.mkdir(exist_ok=True)
        (root / left_out).write_text("no")
    pack(root, tmp_path / "p.zip")
    unpack(tmp_path / "p.zip", tmp_path / "out")
    found = {
        path.relative_to(tmp_path / "out").as_posix(): path.read_bytes()
        for path in (tmp_path / "out").rglob("*")
        if path.is_file()
    }
    assert found == {
        "model.py": b"print(1)",
        "pkg/ünïcode/d\nata.npz": (root / "pkg" / "ünïcode" / "d\nata.npz").read_bytes(),
    }
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_tar_arrives_too(tmp_path: Path, mode: str) -> None:
    archive = tar_of(
        tmp_path / "p", entry("./", tarfile.DIRTYPE), entry("./a/b.py"), mode=mode, content=b"x = 1"
    )
    unpack(archive, tmp_path / "out")
    assert (tmp_path / "out" / "a" / "b.py").read_bytes() == b"x = 1"


CLIMBING = ["../x", "a/../../x", "/etc/passwd", "//x", "a/../b", "..", "..\\x", "a\\b", "C:\\x"]


@pytest.mark.parametrize("name", CLIMBING)
def test_no_path_leaves_the_folder(tmp_path: Path, name: str) -> None:
    refused(zip_of(tmp_path / "p", **{name: "x"}), tmp_path, "leave|no path")
    refused(tar_of(tmp_path / "p", entry(name)), tmp_path, "leave|no path")


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE]
)
def test_a_tar_brings_no_link_and_no_device(tmp_path: Path, kind: bytes) -> None:
    refused(tar_of(tmp_path / "p", entry("a", kind, "/etc/passwd")), tmp_path, "link or a device")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK])
def test_a_zip_brings_no_link_and_no_device(tmp_path: Path, kind: int) -> None:
    with zipfile.ZipFile(tmp_path / "p", "w") as zipped:
        info = zipfile.ZipInfo("a")
        info.external_attr = (kind | 0o777) << 16
        zipped.writestr(info, "/etc/passwd")
    refused(tmp_path / "p", tmp_path, "link or a device")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_entry_does_not_replace_another(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "p", "w") as zipped:
        zipped.writestr("a", "1")
        zipped.writestr("a", "2")
    refused(tmp_path / "p", tmp_path, "twice")
    refused(tar_of(tmp_path / "p", entry("a"), entry("a/b")), tmp_path, "below something")
    refused(tar_of(tmp_path / "p", entry("a/b"), entry("a")), tmp_path, "twice")


def test_bombs_are_stopped_by_what_comes_out(tmp_path: Path) -> None:
    small = Limits(files=10, total_bytes=1 << 20)
    refused(zip_of(tmp_path / "p", a=bytes(3 << 20)), tmp_path, "more than 1 MiB", small)
    refused(tar_of(tmp_path / "p", entry("a"), content=bytes(3 << 20)), tmp_path, "more than", small)
    refused(zip_of(tmp_path / "p", **{str(n): "" for n in range(11)}), tmp_path, "more than 10 files", small)
    refused(
        tar_of(tmp_path / "p", *[entry(str(n)) for n in range(11)]), tmp_path, "more than 10 files", small
    )
    refused(zip_of(tmp_path / "p", **{"a/" * 40 + "x": ""}), tmp_path, "nested")


def test_a_zip_that_lies_about_its_sizes(tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "p", a=bytes(3 << 20))
    content = bytearray(archive.read_bytes())
    for signature, offset in ((b"PK\1\2", 24), (b"PK\3\4", 22)):
        at = content.find(signature)
        struct.pack_into("<L", content, at + offset, 10)
    archive.write_bytes(content)
    with pytest.raises(BadBundle):
        unpack(archive, tmp_path / "out", Limits(total_bytes=1 << 20))
    assert not (tmp_path / "out").exists()


def test_a_zip_with_millions_of_entries_is_refused_before_they_are_read(tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "p", a="x")
    content = bytearray(archive.read_bytes())
    end = content.rfind(b"PK\5\6")
    struct.pack_into("<HHL", content, end + 8, 60000, 60000, 100 << 20)
    archive.write_bytes(content)
    refused(archive, tmp_path, "more than 20000 files")


def test_a_zip64_directory_is_refused_also_when_the_short_one_looks_small(tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "p", a="x")
    content = archive.read_bytes()
    end = content.rfind(b"PK\5\6")
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, 0, 1)
    archive.write_bytes(content[:end] + locator + content[end:])
    refused(archive, tmp_path, "4 GiB")


def test_a_tar_whose_header_claims_gigabytes(tmp_path: Path) -> None:
    header = entry("pax", tarfile.XHDTYPE)
    header.size = 1 << 33
    with gzip.open(tmp_path / "p", "wb") as stream:
        stream.write(header.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 20))
    refused(tmp_path / "p", tmp_path, "too large")


def test_encrypted_and_unusual_compression(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "p", "w", zipfile.ZIP_LZMA) as zipped:
        zipped.writestr("a", "x" * 100)
    refused(tmp_path / "p", tmp_path, "unusual")
    content = bytearray(zip_of(tmp_path / "p", a="x").read_bytes())
    at = content.find(b"PK\1\2")
    content[at + 8] |= 1
    (tmp_path / "p").write_bytes(content)
    refused(tmp_path / "p", tmp_path, "encrypted")


def test_what_is_no_archive_at_all(tmp_path: Path) -> None:
    for content in (
        b"",
        b"hello",
        b"PK\3\4" + bytes(100),
        b"\x1f\x8b" + bytes(50),
        bytes(10_000)[:-1] + b"x",
    ):
        (tmp_path / "p").write_bytes(content)
        with pytest.raises(BadBundle):
            unpack(tmp_path / "p", tmp_path / "out")
        assert not (tmp_path / "out").exists()


@settings(max_examples=150)
@given(data=st.data())
def test_damage_anywhere_is_a_refusal_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("damage")
    if data.draw(st.booleans()):
        content = bytearray(zip_of(folder / "p", **{"a/b.py": "x" * 100, "c": "y"}).read_bytes())
    else:
        content = bytearray(tar_of(folder / "p", entry("a/b.py"), mode="w", content=b"x").read_bytes()[:3000])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (folder / "p").write_bytes(content)
    try:
        unpack(folder / "p", folder / "out", Limits(total_bytes=1 << 20))
    except (BadBundle, RunError):
        assert not (folder / "out").exists()
    assert {path.name for path in folder.iterdir()} <= {"p", "out"}


def test_too_large_a_project_is_not_packed(tmp_path: Path) -> None:
    (tmp_path / "big").mkdir()
    (tmp_path / "big" / "a").write_bytes(bytes(100))
    with pytest.raises(UsageError, match="more than a project"):
        pack(tmp_path / "big", tmp_path / "p.zip", Limits(total_bytes=50))


def test_a_full_disk_is_not_called_a_bad_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive, whole = zip_of(tmp_path / "p", a="x"), os.open

    def full(path: str, flags: int, *more: int, **rest: int) -> int:
        if flags & os.O_CREAT:
            raise OSError(28, "No space left on device")
        return whole(path, flags, *more, **rest)

    monkeypatch.setattr("autoopt.daemon.bundle.os.open", full)
    with pytest.raises(RunError, match="disk is full"):
        unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()
