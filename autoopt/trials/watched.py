"""A runner whose GPUs are watched: a trial that somebody else disturbed is repeated once. Imports no torch.

The times of a trial that shared its GPU say nothing about its optimizer. Its loss is as good as ever, so the repeat never
becomes a second result: whoever asks sees one result a trial.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from autoopt.hardware.choose import Device
from autoopt.hardware.gpu import our_processes
from autoopt.hardware.monitor import Monitor, Sample
from autoopt.hardware.sharing import Judged, Quiet, judge
from autoopt.records import DeviceUse, Outcome, TrialResult, TrialSpec, WorkloadReport
from autoopt.trials.runner import Progress, Runner


class Eyes(Protocol):
    """What sees the GPUs; see `autoopt.hardware.monitor.Monitor`."""

    @property
    def trouble(self) -> str:
        """Why nothing is seen now."""

    def samples(self) -> list[Sample]:
        """What was seen since the last call."""

    def close(self) -> None:
        """Looks away."""


class Blind:
    """Eyes that could not be opened, and why."""

    def __init__(self, trouble: str) -> None:
        self.trouble = trouble

    def samples(self) -> list[Sample]:
        """Nothing."""
        return []

    def close(self) -> None:
        """Nothing."""


def watch(runner: Runner, devices: Sequence[Device]) -> Runner:
    """The runner with its GPUs watched; itself where it has none. Its slots must be on `devices` in turn."""
    uuids = [device.gpu.uuid for device in devices if device.gpu is not None]
    if not uuids:
        return runner
    try:
        eyes: Eyes = Monitor(uuids)
    except OSError as error:  # no process could be started: trials matter more than who else is there
        eyes = Blind(str(error))
    return Watched(runner, devices, eyes)


@dataclass
class _Card:
    """A GPU, and what was seen of it while the trials that are in flight run."""

    device: Device
    uuid: str
    quiet: Quiet
    last: Sample | None = None
    samples: list[Sample] = field(default_factory=list)


@dataclass
class _Flight:
    spec: TrialSpec
    slot: int
    begin: float
    before: Sample | None
    alone: bool
    first: TrialResult | None = None


class Watched:
    """Runs trials as `runner` does, and judges each by what was seen of its GPU.

    Args:
        runner: runs the trials; slot i on `devices[i % len(devices)]`.
        devices: each a GPU.
        eyes: see the GPUs; closed with the runner.
        ours: gives the ids of our processes.
    """

    def __init__(
        self,
        runner: Runner,
        devices: Sequence[Device],
        eyes: Eyes,
        ours: Callable[[], set[int]] = our_processes,
    ) -> None:
        self._runner, self._eyes, self._ours = runner, eyes, ours
        self._cards = [_card(device) for device in devices]
        self._flights: dict[int, _Flight] = {}
        self._known: set[int] = set()
        self._trouble = ""
        self.notes = [
            f"{card.device.name} was shared from the start ({busy}): all times are those of a shared GPU"
            for card in self._cards
            if card.device.gpu is not None and (busy := card.device.gpu.busy()) is not None
        ]

    @property
    def slots(self) -> int:
        """Those of the runner."""
        return self._runner.slots

    def start(self) -> WorkloadReport:
        """As the runner does."""
        return self._runner.start()

    def idle(self) -> list[int]:
        """As the runner says."""
        return self._runner.idle()

    def submit(self, slot: int, spec: TrialSpec) -> None:
        """Starts a trial. Raises: ValueError when the slot is not idle."""
        self._look()
        self._runner.submit(slot, spec)
        self._fly(slot, spec)

    def wait(self, timeout: float) -> list[Progress | TrialResult]:
        """What happened; a trial that was disturbed for the first time is started again instead of told."""
        items = self._runner.wait(timeout)
        self._look()
        told: list[Progress | TrialResult] = []
        for item in items:
            if isinstance(item, Progress):
                told.append(item)
            elif (result := self._landed(item, repeat=True)) is not None:
                told.append(result)
        return told

    def cancel(self) -> list[TrialResult]:
        """Ends the trials in flight; one that was being repeated keeps the result of its first attempt."""
        results = self._runner.cancel()
        self._look()
        return [told for r in results if (told := self._landed(r, repeat=False)) is not None]

    def close(self) -> None:
        """Ends everything; may be called twice."""
        try:
            self._runner.close()
        finally:
            self._eyes.close()

    def _fly(self, slot: int, spec: TrialSpec, first: TrialResult | None = None) -> None:
        card = self._card(slot)
        sharing = [flight for flight in self._flights.values() if self._card(flight.slot) is card]
        for flight in sharing:
            flight.alone = False
        if not sharing:
            card.samples = []
        self._flights[spec.id] = _Flight(spec, slot, time.monotonic(), card.last, not sharing, first)

    def _landed(self, result: TrialResult, *, repeat: bool) -> TrialResult | None:
        """The result to tell, or None when the trial was started again."""
        flight = self._flights.pop(result.spec.id, None)
        if flight is None:
            return result
        result = self._judged(flight, result)
        if flight.first is not None:
            if result.outcome is not Outcome.COMPLETED:
                return flight.first  # its loss counts, however the repeat ended
            return result.model_copy(update={"repeated": flight.first.disturbed})
        again = repeat and result.outcome is Outcome.COMPLETED and result.disturbed
        if not again or flight.slot not in self._runner.idle():
            return result
        self._runner.submit(flight.slot, flight.spec)
        self._fly(flight.slot, flight.spec, result)
        return None

    def _judged(self, flight: _Flight, result: TrialResult) -> TrialResult:
        card = self._card(flight.slot)
        during = [sample for sample in card.samples if sample.at >= flight.begin]
        before = flight.before or (during[0] if during else None)
        if before is None:  # nothing was seen: no driver, or a trial before its first answer
            return result
        judged = judge(
            card.quiet,
            before,
            during,
            self._mine([before, *during]),
            reserved=result.reserved_bytes,
            reserved_begin=result.reserved_begin_bytes,
            alone=flight.alone,
        )
        card.quiet = judged.quiet
        use = _use(card.uuid, [before, *during], judged)
        return result.model_copy(update={"device_use": use, "disturbed": judged.disturbed})

    def _mine(self, samples: Sequence[Sample]) -> set[int]:
        """Ids of ours, those of workers that are gone too; the system is asked only about ids that are new."""
        seen = {p.pid for sample in samples for p in sample.processes or ()}
        if seen - self._known:
            self._known |= self._ours()
        return self._known

    def _look(self) -> None:
        for sample in self._eyes.samples():
            card = next((card for card in self._cards if card.uuid == sample.uuid), None)
            if card is None:
                continue
            if any(p.pid not in self._known for p in sample.processes or ()):
                self._known |= self._ours()  # now, while it lives: later nobody knows whose it was
            card.last = sample
            if any(self._card(flight.slot) is card for flight in self._flights.values()):
                card.samples.append(sample)
        trouble = self._eyes.trouble
        if trouble and not self._trouble:
            self._trouble = trouble
            self.notes.append(
                f"trials were not watched for other processes on the GPU all the time: {trouble}"
            )

    def _card(self, slot: int) -> _Card:
        return self._cards[slot % len(self._cards)]


def _card(device: Device) -> _Card:
    gpu = device.gpu
    if gpu is None:
        raise ValueError(f"{device.name} is no GPU")
    mine = our_processes()
    strangers = frozenset(p.pid for p in gpu.processes if p.pid not in mine)
    return _Card(device, gpu.uuid, Quiet(gpu.memory_used, strangers))


def _use(uuid: str, samples: Sequence[Sample], judged: Judged) -> DeviceUse:
    return DeviceUse(
        uuid=uuid,
        samples=len(samples),
        total=samples[0].total,
        used=judged.used,
        ours=judged.ours,
        context=judged.context,
        others=None if judged.ours is None else max(0, judged.used - judged.ours),
    )
