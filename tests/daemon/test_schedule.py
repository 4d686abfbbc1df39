"""Which job gets which device: on made-up GPUs, with real locks."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from autoopt.daemon.home import Home
from autoopt.daemon.jobs import Job, Options, State, Submission, new_id
from autoopt.daemon.limits import Limits
from autoopt.daemon.machine import Machine
from autoopt.daemon.schedule import Place, Scheduler
from autoopt.daemon.service import Service
from autoopt.daemon.snapshot import Snapshot
from autoopt.errors import DeviceError
from autoopt.hardware.gpu import Gpu, Process, Scan
from autoopt.hardware.leases import Leases
from tests.daemon.daemons import until

GIB = 2**30


def gpu(index: int, total: int = 80 * GIB, used: int = GIB, processes: tuple[Process, ...] = ()) -> Gpu:
    return Gpu(index, "NVIDIA H100", f"GPU-{index}", total, used, total - used, 0, processes)


class Cards:
    """What a made-up driver says."""

    def __init__(self, *gpus: Gpu) -> None:
        self.gpus = gpus

    def __call__(self) -> Scan:
        return Scan(self.gpus, "" if self.gpus else "no GPU")


def job(device: str | None = None, cores: int | None = None) -> Job:
    options = Options(device=device)
    id_ = new_id(time.time(), None)
    return Job(
        id=id_, submission=Submission(target="m.py", options=options, cores=cores), created=1.0, folder="f"
    )


@pytest.fixture
def leases(tmp_path: Path) -> Leases:
    return Leases(tmp_path / "locks")


def placed(found: Place | str) -> Place:
    assert isinstance(found, Place), found
    return found


def waits(found: Place | str) -> str:
    assert isinstance(found, str), found
    return found


def test_jobs_get_one_gpu_each_and_then_wait(leases: Leases) -> None:
    scheduler = Scheduler(Machine(look=Cards(gpu(0), gpu(1)), cores=[0, 1]), leases)
    scheduler.begin()
    first, second = placed(scheduler.place(job())), placed(scheduler.place(job()))
    assert (first.devices, second.devices) == (["GPU-0"], ["GPU-1"])
    assert "cuda:0 is leased by job" in waits(scheduler.place(job()))
    cpu = placed(scheduler.place(job("cpu", cores=1)))
    assert (cpu.devices, cpu.cores, cpu.request) == (["cpu"], [0], "cpu")
    for place in (first, second, cpu):
        place.release()


def test_a_gpu_that_somebody_else_is_on_is_passed_by(leases: Leases) -> None:
    other = Process(1, "bob", 40 * GIB)
    scheduler = Scheduler(Machine(look=Cards(gpu(0, processes=(other,)), gpu(1)), cores=[0]), leases)
    scheduler.begin()
    place = placed(scheduler.place(job()))
    assert place.uuids == ["GPU-1"]
    assert "process 1 of bob is on it" in waits(scheduler.place(job("cuda:0")))
    place.release()


def test_several_gpus_are_all_or_none_and_are_not_overtaken(leases: Leases) -> None:
    scheduler = Scheduler(Machine(look=Cards(gpu(0), gpu(1)), cores=[0]), leases)
    scheduler.begin()
    first = placed(scheduler.place(job("cuda:1")))
    assert "cuda:1 is leased by job" in waits(scheduler.place(job("cuda:0,cuda:1")))
    assert "another job was there first" in waits(scheduler.place(job("cuda:0")))
    first.release()
    scheduler.begin()
    both = placed(scheduler.place(job("cuda:0,cuda:1")))
    assert (both.uuids, both.request) == (["GPU-0", "GPU-1"], "cuda:0,cuda:1")
    both.release()


def test_devices_that_the_daemon_has_not(leases: Leases) -> None:
    machine = Machine("cuda:1", look=Cards(gpu(0), gpu(1)), cores=[0])
    assert machine.uuids == ["GPU-1"]
    with pytest.raises(DeviceError, match="no device cuda:0: it has cpu, cuda:1"):
        machine.wanted("cuda:0")
    with pytest.raises(DeviceError, match="twice"):
        machine.wanted("cuda:1,cuda:1")
    with pytest.raises(DeviceError, match="no GPU cuda:7 to serve"):
        Machine("cuda:7", look=Cards(gpu(0)), cores=[0])
    assert Machine("auto", look=Cards(), cores=[0]).wanted(None) == []
    with pytest.raises(DeviceError, match="asks for 2 cores"):
        Scheduler(machine, leases).place(job("cpu", cores=2))


def test_a_gpu_is_given_back_when_its_memory_is_free(leases: Leases, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoopt.daemon.machine._FRESH_SECONDS", 0.0)
    cards = Cards(gpu(0))
    machine = Machine(look=cards, cores=[0])
    scheduler = Scheduler(machine, leases)
    scheduler.begin()
    place = placed(scheduler.place(job()))
    cards.gpus = (gpu(0, used=40 * GIB),)
    until(lambda: machine.gpus()[0].memory_used == 40 * GIB)
    scheduler.give_back(place)
    for _ in range(3):
        scheduler.begin()
        machine.gpus()
        assert leases.holder("GPU-0") is not None
    cards.gpus = (gpu(0),)
    until(lambda: scheduler.begin() or leases.holder("GPU-0") is None)
    assert not scheduler.cooling


def test_a_driver_that_goes_away_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoopt.daemon.machine._FRESH_SECONDS", 0.0)
    cards = Cards(gpu(0))
    machine = Machine(look=cards, cores=[0])
    cards.gpus = ()
    until(lambda: machine.gpus() == [])
    assert machine.trouble == "cuda:0: no GPU"


def _run(job: Job, taken: Snapshot, folder: Path, *, resume: bool, device: str) -> list[str]:
    text = f"device={device} visible=$CUDA_VISIBLE_DEVICES leased=$AUTOOPT_LEASED"
    return [
        "/bin/sh",
        "-c",
        f"echo {text} >&2; mkdir -p {folder}/out; echo 'complete: true' > {folder}/out/recommendation.yaml",
    ]


def _predict(job: Job, taken: Snapshot, capacity: int) -> list[str]:
    word = job.submission.arguments[0]
    if word == "dies":
        return [sys.executable, "-c", "import os; os.abort()"]
    rows = [{"peak_bytes": int(word)}, {"peak_bytes": 10 * int(word)}, {"peak_bytes": None}]
    told = json.dumps({"context_bytes": GIB, "optimizers": rows})
    return [sys.executable, "-c", f"print('noise'); print({told!r})"]


@pytest.fixture
def service(tmp_path: Path, leases: Leases) -> Iterator[Service]:
    (tmp_path / "model.py").touch()
    made = Service(
        Home(tmp_path / "home"),
        machine=Machine(look=Cards(gpu(0), gpu(1, total=24 * GIB)), cores=[0]),
        leases=leases,
        command=_run,
        memory=_predict,
        limits=Limits(free=0),
        say=lambda _: None,
    )
    made.start()
    yield made
    made.stop()


def submit(service: Service, need: str, device: str | None = None) -> str:
    folder = str(service.home.path.parent)
    given = Submission(target="model.py", cwd=folder, arguments=[need], options=Options(device=device))
    return service.submit(given).id


def test_a_job_sees_its_gpu_only(service: Service) -> None:
    id_ = submit(service, str(10 * GIB), "cuda:1")
    until(lambda: service.job(id_).state is State.DONE)
    assert service.log(id_).strip() == "device=cuda:0 visible=GPU-1 leased=GPU-1"
    devices = {device["uuid"]: device for device in service.devices()}
    assert (devices["GPU-0"]["name"], devices["GPU-0"]["total"]) == ("cuda:0 (NVIDIA H100)", 80 * GIB)
    assert devices["cpu"]["total"] == 1


def test_a_job_that_no_gpu_can_hold_is_refused_with_the_figure(service: Service) -> None:
    id_ = submit(service, str(99 * GIB))
    job = until(lambda: (job := service.job(id_)).state is State.FAILED and job)
    assert "needs 107 GB" in job.reason
    assert "here has 85.9 GB" in job.reason
    assert (job.attempts, job.error["exit_code"]) == (0, 2)
    small = submit(service, str(30 * GIB), "cuda:1")
    job = until(lambda: (job := service.job(small)).state is State.FAILED and job)
    assert "here has 25.8 GB" in job.reason


def test_a_job_goes_to_the_gpu_that_can_hold_it(service: Service, leases: Leases) -> None:
    taken = leases.take("GPU-0", "a test")
    assert taken is not None
    begin = service.hub.last
    id_ = submit(service, str(30 * GIB))
    until(lambda: "cuda:1 has" in service.job(id_).reason)
    assert "cuda:0 is leased by a test" in service.job(id_).reason
    told = [update.data["reason"] for update in service.updates(begin) if update.kind == "job"]
    assert any("cuda:0 is leased by a test" in reason for reason in told)
    taken.release()
    until(lambda: service.job(id_).state is State.DONE)
    assert "visible=GPU-0" in service.log(id_)


def test_a_prediction_that_dies_keeps_nobody_from_running(service: Service) -> None:
    id_ = submit(service, "dies")
    until(lambda: service.job(id_).state is State.DONE)
