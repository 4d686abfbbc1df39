"""Devices, memory, threads, and who else is there. Imports no torch.

`devices` turns what the user asked for into devices that exist and are free, `workers_for` says how many
trials they can run at once, `describe` is for a result's provenance. `monitor.Monitor` watches GPUs while trials run,
`sharing.judge` says what it saw, and `diagnosis.examine` is what `autoopt doctor` tells.
"""

from autoopt.hardware.choose import Device, Workers, describe, devices, worker_environment, workers_for
from autoopt.hardware.cpu import available_memory, cpu_slots
from autoopt.hardware.gpu import Gpu, Process

__all__ = [
    "Device",
    "Gpu",
    "Process",
    "Workers",
    "available_memory",
    "cpu_slots",
    "describe",
    "devices",
    "worker_environment",
    "workers_for",
]
