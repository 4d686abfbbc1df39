"""What the page packs is a zip for everybody else."""

from __future__ import annotations

import base64
import io
import zipfile

import pytest
from playwright.sync_api import Page

pytestmark = pytest.mark.long

PACK = """async (files) => {
  const { pack } = await import("/static/zip.js");
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const made = await pack(files.map(([path, text]) => ({ path, file: new File([bytes(text)], "x") })), "project.zip");
  return btoa(String.fromCharCode(...new Uint8Array(await made.arrayBuffer())));
}"""


def test_files_come_out_as_they_went_in(modules: Page) -> None:
    files = {
        "model.py": b"print('\xc3\xa4')\n" * 50,
        "data/weights.bin": bytes(range(256)),
        "leer.txt": b"",
        "n\u00e4me.py": b"x",
    }
    packed = modules.evaluate(
        PACK, [[path, base64.b64encode(content).decode()] for path, content in files.items()]
    )
    with zipfile.ZipFile(io.BytesIO(base64.b64decode(packed))) as found:
        assert found.testzip() is None
        assert {name: found.read(name) for name in found.namelist()} == files
