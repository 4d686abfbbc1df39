"""How much can the daemon take? One command, from the root of the repository:

    python -m benchmarks.daemon_load

A thousand jobs from twenty clients at once, over the Unix socket, to a daemon in a process of its own; each job's
runner is a shell command that writes a result, so that what is measured is the daemon: latency of a submit, throughput,
and its memory while it goes on. The table is printed and appended to benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from autoopt.daemon.home import Home
from autoopt.daemon.jobs import Job
from autoopt.daemon.snapshot import Snapshot
from benchmarks.results import append, heading, machine

ROOT = Path(__file__).resolve().parents[1]
SAMPLE_SECONDS = 0.5


@dataclass
class Measured:
    """Seconds of each submit and of all, and (jobs done, resident bytes of the daemon) while it went on."""

    submits: list[float] = field(default_factory=list)
    submitting: float = 0.0
    all: float = 0.0
    memory: list[tuple[int, int]] = field(default_factory=list)
    health: list[float] = field(default_factory=list)


def trivial(job: Job, taken: Snapshot, folder: Path, *, resume: bool, device: str) -> list[str]:  # noqa: ARG001
    """A runner that is done at once."""
    out = shlex.quote(str(folder / "out"))
    return ["/bin/sh", "-c", f"mkdir -p {out} && echo 'complete: true' > {out}/recommendation.yaml"]


def serve() -> int:
    """The daemon's process."""
    from autoopt.daemon import server
    from autoopt.daemon.limits import Limits
    from autoopt.daemon.service import Service

    home = Home()
    service = Service(home, devices="cpu", command=trivial, limits=Limits(free=0))
    return server.serve(
        service, home, server.Settings(home.socket), ready=lambda _: print("ready", flush=True)
    )


def measure(jobs: int, clients: int) -> Measured:
    """Submit, and wait until all are done."""
    with tempfile.TemporaryDirectory(prefix="autoopt-load-") as name:
        folder = Path(name)
        (folder / "model.py").touch()
        os.environ.update(AUTOOPT_HOME=str(folder / "home"), AUTOOPT_LEASES=str(folder / "leases"))
        command = [sys.executable, "-m", "benchmarks.daemon_load", "--serve"]
        daemon = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert daemon.stdout is not None
        try:
            if daemon.stdout.readline() != "ready\n":
                raise RuntimeError("the daemon did not start")
            os.chdir(folder)
            return _load(psutil.Process(daemon.pid), jobs, clients)
        finally:
            os.chdir(ROOT)
            daemon.terminate()
            daemon.wait(30)


def _load(daemon: psutil.Process, jobs: int, clients: int) -> Measured:
    from autoopt.daemon import Client

    found = Measured()
    over = threading.Event()

    def watch() -> None:
        with Client() as client:
            while not over.wait(SAMPLE_SECONDS):
                began = time.perf_counter()
                client.health()
                found.health.append(time.perf_counter() - began)
                done = _done()
                found.memory.append((done, daemon.memory_info().rss))

    def submit(count: int) -> list[float]:
        taken = []
        with Client() as client:
            for _ in range(count):
                began = time.perf_counter()
                client.submit("model.py", cores=1)
                taken.append(time.perf_counter() - began)
        return taken

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    shares = [jobs // clients + (n < jobs % clients) for n in range(clients)]
    with ThreadPoolExecutor(clients) as pool:
        for taken in pool.map(submit, shares):
            found.submits += taken
    found.submitting = time.perf_counter() - began
    while _done() < jobs:
        time.sleep(0.05)
    found.all = time.perf_counter() - began
    over.set()
    watcher.join()
    return found


def _done() -> int:
    """Jobs that have a result."""
    return sum(1 for _ in Home().jobs.glob("*/out/recommendation.yaml"))


def report(found: Measured, jobs: int, clients: int, command: str) -> str:
    """The section of RESULTS.md."""
    submits = sorted(found.submits)
    p99 = submits[min(len(submits) - 1, int(0.99 * len(submits)))]
    health = sorted(found.health)
    rows = [
        ("submit, median", f"{statistics.median(submits) * 1e3:.0f} ms"),
        ("submit, 99th percentile", f"{p99 * 1e3:.0f} ms"),
        ("submits a second, while they came", f"{jobs / found.submitting:.0f}"),
        ("jobs a second, from the first submit to the last result", f"{jobs / found.all:.1f}"),
        (
            "health check meanwhile, median and worst",
            f"{statistics.median(health) * 1e3:.0f} and {health[-1] * 1e3:.0f} ms",
        ),
    ]
    rows += [
        (f"daemon's resident memory with {done} jobs done", f"{rss / 2**20:.0f} MiB")
        for done, rss in _spread(found.memory)
    ]
    table = "| what | |\n|---|---|\n" + "".join(f"| {name} | {value} |\n" for name, value in rows)
    head = heading("The daemon under load", command)
    return f"{head}{machine()}. {jobs} jobs of a trivial runner, {clients} clients at once.\n\n{table}"


def _spread(memory: list[tuple[int, int]], count: int = 5) -> list[tuple[int, int]]:
    """A few samples, evenly over the run."""
    last = len(memory) - 1
    return [memory[round(n * last / (count - 1))] for n in range(count)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        sys.exit(serve())
    command = f"python -m benchmarks.daemon_load --jobs {given.jobs} --clients {given.clients}"
    append(report(measure(given.jobs, given.clients), given.jobs, given.clients, command))


if __name__ == "__main__":
    main()
