"""What the pages print to be run, runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs import pages

DOCS = pages.ROOT / "docs"
MARKED = [page for page in sorted(DOCS.glob("*.md")) if pages.blocks(page.read_text())]
"""Pages with something to run."""


@pytest.mark.long(seconds=30)
@pytest.mark.parametrize("page", MARKED, ids=lambda page: page.name)
def test_a_page_runs_as_printed(page: Path, tmp_path: Path) -> None:
    assert pages.run(page, tmp_path)


def test_the_pages_that_can_run_are_marked() -> None:
    names = {page.name for page in MARKED}
    assert {"choice.md", "contract.md", "devices.md", "memory.md", "projects.md", "watch.md"} <= names


def test_every_mark_has_its_block() -> None:
    """A mark that stands before no block would run nothing and say nothing."""
    for page in DOCS.glob("*.md"):
        text = page.read_text()
        assert len(re.findall(r"^<!-- (?:run|file)", text, re.MULTILINE)) == len(pages.blocks(text)), (
            page.name
        )


PAGE = """
Words.

<!-- file: say.py -->
```python
print(open("told.txt").read())
```

<!-- run
from pathlib import Path
told = "something"
-->
```python
Path("told.txt").write_text(told)
```

<!-- run -->
```bash
python say.py   # a comment
```

```bash
rm -rf everything
```
"""


def test_blocks_run_in_order_and_only_those_marked(tmp_path: Path) -> None:
    (page := tmp_path / "page.md").write_text(PAGE)
    assert pages.run(page, tmp_path) == ["", "something\n"]


def test_a_block_that_fails_is_told_with_its_command(tmp_path: Path) -> None:
    (page := tmp_path / "page.md").write_text("<!-- run -->\n```\npython nowhere.py\n```\n")
    with pytest.raises(AssertionError, match="nowhere"):
        pages.run(page, tmp_path)


def test_budgets_are_small_and_devices_are_here() -> None:
    text = "<!-- run -->\n```\nautoopt profile m.py --budget 10m --device cuda:0\n```\n"
    assert pages.blocks(text)[0].code == "autoopt profile m.py --budget 10s --device cpu\n"
