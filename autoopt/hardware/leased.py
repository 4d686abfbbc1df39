"""The devices of a run, chosen and leased as one."""

from __future__ import annotations

from autoopt.errors import DeviceError
from autoopt.hardware.choose import Device, devices
from autoopt.hardware.leases import Lease, lease_for_run

_QUICKER = 8
"""How often somebody else may be quicker to lease a device before that is an error."""


def leased(request: str, who: str) -> tuple[list[Device], list[Lease]]:
    """The devices that a request means, and the leases of their GPUs: nobody else uses them until those are released.

    Args:
        request: as for `devices`.
        who: told to others that want them.

    Raises:
        DeviceError: a device that is not there, or that somebody else has; the message says who.
        RunError: the locks' folder cannot be used.

    Example:
        >>> chosen, leases = leased("cpu", "an example")
        >>> [device.name for device in chosen], leases
        (['cpu'], [])
    """
    for _ in range(_QUICKER - 1):
        try:
            return _once(request, who)
        except DeviceError:
            # Between the look and the lease somebody was quicker: where any device will do, there may be another.
            if request.strip().lower() != "auto":
                raise
    return _once(request, who)


def _once(request: str, who: str) -> tuple[list[Device], list[Lease]]:
    chosen = devices(request)
    gpus = [(device.gpu.uuid, device.name) for device in chosen if device.gpu is not None]
    return chosen, lease_for_run([uuid for uuid, _ in gpus], who, [name for _, name in gpus])
