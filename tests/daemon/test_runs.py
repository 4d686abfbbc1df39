"""Jobs that run, and one that could not be started."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from autoopt.daemon.guarded import Guarded
from autoopt.daemon.home import Home
from autoopt.daemon.jobs import State, Submission
from autoopt.daemon.limits import Limits
from autoopt.daemon.service import Service
from autoopt.hardware.leases import Leases
from tests.daemon.daemons import until
from tests.daemon.test_together import show


def test_a_job_that_found_no_process_left_gives_its_cores_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[None] = []

    def start(*args: Any) -> Guarded:
        if not refused:
            refused.append(None)
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return Guarded(*args)

    monkeypatch.setattr("autoopt.daemon.launch.Guarded", start)
    (tmp_path / "model.py").write_text("x = 1\n")
    service = Service(
        Home(tmp_path / "home"),
        devices="cpu",
        command=show,
        leases=Leases(tmp_path / "leases"),
        limits=Limits(free=0, pause=0.01),
        say=lambda _: None,
    )
    service.start()
    try:
        job = service.submit(Submission(target="model.py", cwd=str(tmp_path)))
        until(lambda: refused)
        until(lambda: service.job(job.id).state is State.FAILED, 10.0)  # it ran: `show` writes no result
        assert "runs" in service.log(job.id)
        until(lambda: not any(device["leased_by"] for device in service.devices()), 10.0)
    finally:
        service.stop()
