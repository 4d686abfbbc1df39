"""The clients, synchronous and asynchronous, on a service in memory."""

from __future__ import annotations

import asyncio
import inspect
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from autoopt.daemon import AsyncClient, Client
from autoopt.daemon.jobs import Job, NoSuchJob, NotPossible, State, Submission
from autoopt.daemon.talk import NoDaemon, failure
from autoopt.errors import AutooptError, NoResult, RunError, UsageError, WorkerError, WorkloadError
from tests.daemon.fakes import FakeService
from tests.daemon.listening import Listening, listening


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listening]:
    with listening(tmp_path_factory.mktemp("client")) as found:
        yield found


@pytest.fixture
def client(server: Listening) -> Iterator[Client]:
    with Client(socket=server.serving.socket) as found:
        yield found


def test_both_have_the_same_methods() -> None:
    """But for the login link, which is for a person at a terminal."""

    def methods(kind: type) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(value).parameters)
            for name, value in vars(kind).items()
            if inspect.isfunction(value) and not name.startswith("_")
        }

    sync = methods(Client)
    del sync["login_link"]
    assert methods(AsyncClient) == sync


def test_from_submit_to_result(server: Listening, client: Client) -> None:
    job = client.submit("model.py", options={"steps": 3}, priority=2, name="n", arguments=["a"])
    assert job == server.service.job(job.id)
    assert job.submission.interpreter == sys.executable
    assert client.jobs(["queued"], limit=1) == [job]
    assert client.live(job.id)["progress"] == {"share": 0.5}
    assert client.log(job.id, 3) == "t>\n"
    assert client.devices()[0]["uuid"] == "cpu"
    with pytest.raises(NotPossible, match="no recommendation") as refused:
        client.result(job.id)
    assert refused.value.hint == "Wait for it."
    seen: list[State] = []
    moves = threading.Timer(0.2, lambda: server.service.move(job.id, State.RUNNING, State.DONE))
    moves.start()
    assert client.wait(job.id, 30, seen=lambda job: seen.append(job.state)).state is State.DONE
    assert seen == [State.QUEUED, State.DONE]
    assert client.result(job.id)["recommendation"]["optimizer"] == "adamw"
    with pytest.raises(NotPossible):
        client.cancel(job.id)


def test_waiting_ends_in_time(client: Client) -> None:
    job = client.submit("model.py")
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        client.wait(job.id, 0.3)
    assert time.monotonic() - began < 10
    assert client.cancel(job.id).state is State.CANCELLED
    assert client.wait(job.id, 10).state is State.CANCELLED
    assert client.retry(job.id).state is State.QUEUED


def test_the_same_from_asyncio(server: Listening) -> None:
    async def both() -> list[State]:
        async with AsyncClient(socket=server.serving.socket) as client:
            jobs = [await client.submit(f"{number}.py", key=f"async {number}") for number in range(8)]
            assert await client.submit("0.py", key="async 0") == jobs[0]
            updates = client.events()
            assert (await anext(updates)).kind == "reset"
            for job in jobs:
                await client.cancel(job.id)
            assert (await anext(updates)).data["state"] == "cancelled"
            await updates.aclose()  # type: ignore[attr-defined]
            ended = await asyncio.gather(*(client.wait(job.id, 30) for job in jobs))
            return [job.state for job in ended]

    assert asyncio.run(both()) == [State.CANCELLED] * 8


def test_errors_come_back_as_they_were_raised(server: Listening, client: Client) -> None:
    with pytest.raises(NoSuchJob):
        client.job("abcdefghijkl")
    for id_ in ("../x", "", "a b", "%2e"):
        with pytest.raises(NoSuchJob):
            client.job(id_)
    try:
        for error in (UsageError("m", "h"), WorkloadError("m", "h"), RunError("m", "h"), NoResult("m", "h")):
            server.service.raises = error
            with pytest.raises(AutooptError) as raised:
                client.submit("model.py")
            assert type(raised.value) is type(error)
            assert (raised.value.message, raised.value.hint) == ("m", "h")
    finally:
        server.service.raises = None
    with pytest.raises(UsageError, match="priority"):
        client.submit("model.py", priority=101)


def test_nobody_there(tmp_path: Path) -> None:
    with Client(socket=tmp_path / "nothing") as client:
        for ask in (client.jobs, lambda: client.wait("a"), lambda: next(client.events())):
            began = time.monotonic()
            with pytest.raises(NoDaemon, match="No daemon is running"):
                ask()
            assert time.monotonic() - began < 5
    with (
        Client(url="http://127.0.0.1:1", token="x") as client,
        pytest.raises(NoDaemon, match=r"127\.0\.0\.1:1"),
    ):
        client.jobs()


def test_a_restart_in_between_is_waited_out(tmp_path: Path) -> None:
    service = FakeService()
    job = service.submit(Submission(target="model.py"))
    found: list[Any] = []

    def wait() -> None:
        with Client(socket=tmp_path / "home" / "run" / "autoopt.sock") as client:
            found.append(client.wait(job.id).state)

    def follow() -> None:
        with Client(socket=tmp_path / "home" / "run" / "autoopt.sock") as client:
            for update in client.events():
                if update.data.get("n") == 2:
                    found.append(update.kind)
                    return

    threads = [threading.Thread(target=wait), threading.Thread(target=follow)]
    with listening(tmp_path, tcp=False, service=service):
        for thread in threads:
            thread.start()
        time.sleep(0.5)
    again = FakeService()
    again.found[job.id] = job
    with listening(tmp_path, tcp=False, service=again):
        again.move(job.id, State.CANCELLED)
        deadline = time.monotonic() + 30
        while threads[1].is_alive():
            assert time.monotonic() < deadline
            again.hub.publish("live", "a", {"n": 2})
            time.sleep(0.05)
        for thread in threads:
            thread.join(30)
    assert sorted(map(str, found)) == ["cancelled", "live"]


def test_why_a_job_has_no_result() -> None:
    job = Job(id="a", submission=Submission(target="m"), created=0.0, folder="jobs/a")

    def of(state: State, **changes: Any) -> AutooptError | None:
        return failure(job.model_copy(update={"state": state, **changes}))

    assert of(State.DONE) is None
    told = {"message": "m", "hint": "h", "exit_code": 3}
    error = of(State.FAILED, error=told)
    assert isinstance(error, WorkloadError)
    assert (error.message, error.hint) == ("m", "h")
    assert isinstance(of(State.FAILED), RunError)
    assert isinstance(of(State.SET_ASIDE), WorkerError)
    assert isinstance(of(State.CANCELLED), NotPossible)


def test_a_socket_and_a_url() -> None:
    with pytest.raises(UsageError, match="socket or by a URL"):
        Client(socket="/x", url="http://127.0.0.1:1", token="t")


def test_too_large_a_project_is_refused_before_it_is_sent(
    server: Listening, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.py").write_bytes(os.urandom(5000))
    monkeypatch.setattr("autoopt.daemon.talk.MAX_ARCHIVE", 1000)
    with (
        Client(url=server.serving.url, token=server.token) as client,
        pytest.raises(UsageError, match="when packed"),
    ):
        client.submit(str(tmp_path / "model.py"))
