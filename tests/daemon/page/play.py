"""A job's process that measures nothing: it writes the events of a recorded run, in as many seconds as are given.

python -m tests.daemon.page.play OUT SECONDS
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path

RECORDED = Path(__file__).parent / "recorded"


def main(out: Path, seconds: float) -> None:
    """Goes on where an earlier process of the same job was ended."""
    out.mkdir(parents=True, exist_ok=True)
    lines = (RECORDED / "events.jsonl").read_text(encoding="utf-8").splitlines()
    with (out / "events.jsonl").open("a+", encoding="utf-8") as file:
        file.seek(0)
        written = len(file.readlines())
        shift = time.time() - json.loads(lines[max(0, written - 1)])["at"]
        for line in lines[written:]:
            event = json.loads(line)
            print(event["kind"], file=sys.stderr, flush=True)
            file.write(json.dumps({**event, "at": event["at"] + shift}) + "\n")
            file.flush()
            time.sleep(seconds / len(lines))
    for name in ("recommendation.yaml", "train.py"):
        shutil.copyfile(RECORDED / name, out / name)


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
