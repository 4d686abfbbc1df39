"""The process that asks the driver again and again, so that nobody else has to wait for its answer.

    python -m autoopt.hardware.watcher SECONDS UUID...

A call into the driver can hang for good (a GPU that fell off the bus, a driver under reset), and nothing can take a
thread out of it. Here it hangs a process of which the run needs nothing. One JSON line a look and GPU goes to stdout;
the end of stdin, which is the end of the parent however it died, ends the process, also inside a call that hangs.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

from autoopt.hardware.gpu import DriverError, driver, look


def main(arguments: Sequence[str]) -> NoReturn:
    """Looks until the parent is gone."""
    interval, uuids = float(arguments[0]), arguments[1:]
    # Python lets go of its lock inside a call into the driver, so this thread ends the process even then.
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    while True:
        try:
            with driver():
                while True:
                    for uuid in uuids:
                        _tell(_seen(uuid))
                    time.sleep(interval)
        except DriverError as error:
            for uuid in uuids:
                _tell({"uuid": uuid, "at": time.monotonic(), "error": str(error)})
        time.sleep(interval)  # then from the start: a driver that was reloaded needs a new beginning


def _seen(uuid: str) -> dict[str, object]:
    found = look(uuid)
    processes = (
        None
        if found.processes is None
        else [[process.pid, process.owner, process.memory_bytes] for process in found.processes]
    )
    # After the answer: a look that took long is as old as its answer.
    at = time.monotonic()
    return {"uuid": uuid, "at": at, "used": found.used, "total": found.total, "processes": processes}


def _tell(line: dict[str, object]) -> None:
    data = json.dumps(line).encode() + b"\n"
    try:
        os.write(1, data)  # far below the size up to which a pipe takes a line whole
    except OSError:
        os._exit(0)


def _leave_with_parent() -> None:
    with suppress(OSError):
        while os.read(0, 4096):
            pass
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
