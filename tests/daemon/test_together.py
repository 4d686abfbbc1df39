"""The door and what stands behind it together: many at once, and an upload that becomes a job."""

from __future__ import annotations

import asyncio
import io
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

from autoopt.daemon import AsyncClient, Client
from autoopt.daemon.home import Home
from autoopt.daemon.jobs import ENDED, Job
from autoopt.daemon.limits import Limits
from autoopt.daemon.service import Service
from autoopt.daemon.snapshot import Snapshot
from tests.daemon.listening import listening


def show(job: Job, taken: Snapshot, folder: Path, *, resume: bool, device: str) -> list[str]:
    """A runner that prints what it was given, and fails, there being no result."""
    return [sys.executable, "-I", "-S", "-c", f"import sys; print('runs', {taken.target!r}, file=sys.stderr)"]


def service(folder: Path, **more: Any) -> Service:
    return Service(Home(folder / "home"), devices="cpu", command=show, limits=Limits(free=0), **more)


def test_a_hundred_submits_at_once(tmp_path: Path) -> None:
    """Of those with the same key one becomes a job, and everybody is told which."""
    (tmp_path / "model.py").write_text("x = 1\n")

    async def submit(socket: Path) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        async with AsyncClient(socket=socket) as client:

            async def one(number: int) -> None:
                key = f"key {number % 20}"
                job = await client.submit(str(tmp_path / "model.py"), key=key)
                found.setdefault(key, set()).add(job.id)

            await asyncio.gather(*(one(number) for number in range(100)))
            assert (await client.health())["status"] == "ok"
        return found

    with listening(tmp_path, tcp=False, service=service(tmp_path)) as server:
        found = asyncio.run(submit(server.serving.socket))
        with Client(socket=server.serving.socket) as client:
            jobs = client.jobs(limit=1000)
    assert {len(ids) for ids in found.values()} == {1}
    assert {job.submission.key: {job.id} for job in jobs} == found
    assert len(found) == 20


def test_an_upload_becomes_a_job_and_leaves_nothing_else(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("inner/model.py", "from inner import part\n")
        archive.writestr("inner/part.py", "x = 1\n")
    with listening(tmp_path, service=service(tmp_path)) as server:
        import httpx2 as httpx

        headers = {"authorization": f"Bearer {server.token}"}
        with httpx.Client(base_url=server.serving.url or "", headers=headers, trust_env=False) as http:
            answer = http.post(
                "/v1/jobs",
                data={"submission": json.dumps({"target": "inner/model.py", "options": {"steps": 5}})},
                files={"bundle": ("p.zip", packed.getvalue())},
            )
            assert answer.status_code == 201, answer.text
            id_ = answer.json()["id"]
            bad = http.post(
                "/v1/jobs",
                data={"submission": json.dumps({"target": "nowhere.py"})},
                files={"bundle": ("p.zip", packed.getvalue())},
            )
            assert bad.status_code == 422
        with Client(url=server.serving.url, token=server.token) as client:
            job = client.wait(id_, 60)
            assert job.state in ENDED
            assert "runs" in client.log(id_)
            assert "model.py" in client.log(id_)
            assert len(client.jobs()) == 1
        home: Path = server.home.path
        assert (home / "jobs" / id_ / "project" / "inner" / "part.py").read_text() == "x = 1\n"
        assert list((home / "uploads").iterdir()) == []
        assert [path.name for path in (home / "jobs").iterdir()] == [id_]
