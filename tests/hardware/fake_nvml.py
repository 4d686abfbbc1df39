"""A stand-in for the module `pynvml`: GPUs as data, and the functions that `autoopt.hardware.gpu` calls."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace

GIB = 2**30


class NVMLError(Exception):
    pass


@dataclass
class Card:
    """`processes` are (pid, bytes); None: the driver does not tell. `parts` makes it split into instances."""

    uuid: str
    total: int = 80 * GIB
    used: int = GIB
    processes: list[tuple[int, int | None]] | None = field(default_factory=list)
    parts: list[Card | None] = field(default_factory=list)
    utilization: int | None = 0


class FakeNvml:
    NVMLError = NVMLError
    NVML_DEVICE_MIG_ENABLE = 1

    def __init__(self, *cards: Card, broken: str = "") -> None:
        self.cards = cards
        self.broken = broken
        self.open = 0

    def nvmlInit(self) -> None:
        if self.broken:
            raise NVMLError(self.broken)
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlSystemGetDriverVersion(self) -> str:
        return "570.1"

    def nvmlDeviceGetCount(self) -> int:
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Card:
        return self.cards[index]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> Card:
        for card in self.cards:
            if card.uuid == uuid:
                return card
        raise NVMLError("Not Found")

    def nvmlDeviceGetMigMode(self, card: Card) -> tuple[int, int]:
        return (1, 1) if card.parts else (0, 0)

    def nvmlDeviceGetMaxMigDeviceCount(self, card: Card) -> int:
        return len(card.parts)

    def nvmlDeviceGetMigDeviceHandleByIndex(self, card: Card, index: int) -> Card:
        part = card.parts[index]
        if part is None:
            raise NVMLError("Not Found")
        return part

    def nvmlDeviceGetName(self, card: Card) -> bytes:
        return b"NVIDIA H100"

    def nvmlDeviceGetUUID(self, card: Card) -> str:
        return card.uuid

    def nvmlDeviceGetMemoryInfo(self, card: Card) -> SimpleNamespace:
        return SimpleNamespace(total=card.total, used=card.used, free=card.total - card.used)

    def nvmlDeviceGetUtilizationRates(self, card: Card) -> SimpleNamespace:
        if card.utilization is None:
            raise NVMLError("Not Supported")
        return SimpleNamespace(gpu=card.utilization)

    def nvmlDeviceGetComputeRunningProcesses(self, card: Card) -> list[SimpleNamespace]:
        if card.processes is None:
            raise NVMLError("No Permission")
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in card.processes]
