"""The real daemon on a free port, with the page; its jobs' processes play a recorded run. For tests:

    python -m tests.daemon.page.serve HOME PORT SECONDS

prints its address and a login link as JSON when it is ready. `SECONDS` is how long the recorded run is made to take;
with 0 the jobs are real ones.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from autoopt.daemon import commands
from autoopt.daemon.home import Home
from autoopt.daemon.jobs import Job
from autoopt.daemon.server import Serving, Settings, serve
from autoopt.daemon.service import Service
from autoopt.daemon.snapshot import Snapshot
from autoopt.daemon.sockets import Address
from autoopt.records import Cluster


def main(home: str, port: str, seconds: str) -> int:
    def played(
        job: Job,
        snapshot: Snapshot,
        folder: Path,
        *,
        resume: bool,
        device: str,
        cluster: Cluster | None = None,
    ) -> list[str]:
        return [sys.executable, "-m", "tests.daemon.page.play", str(folder / "out"), seconds]

    def ready(serving: Serving) -> None:
        print(json.dumps({"url": serving.url, "link": serving.link()}), flush=True)

    place = Home(Path(home))
    address = os.environ.get("TEST_CLUSTER")
    service = Service(
        place,
        devices="cpu",
        cluster=Cluster(address=address) if address else None,
        command=played if float(seconds) else commands.profile,
    )
    settings = Settings(socket=place.socket, http=Address("127.0.0.1", int(port)))
    return serve(service, place, settings, ready=ready)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
