"""Who has which device, machine-wide: a lock file per device, held by whoever uses it, gone with its process.

All daemons and all `autoopt profile` runs of a machine, of whichever user, take the same locks: one per GPU, by its
UUID, and one per processor core and user. A lock is a `flock`, so it needs no cleaning up after a crash; its file says
who holds it.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from autoopt.errors import DeviceError, RunError

VARIABLE = "AUTOOPT_LEASES"
"""Environment variable: another folder for the locks."""
INHERITED = "AUTOOPT_LEASED"
"""Environment variable: devices, separated by commas, that are leased already for the processes that have it."""

# Not the folder that TMPDIR names: that one is often a user's own, and the locks are for all.
_FOLDER = Path("/tmp/autoopt-leases")


_ours: set[str] = set()
"""Devices that this process has leased."""


class Lease:
    """A device that is ours until `release`. The lock lasts while any process has `descriptor` open."""

    def __init__(self, device: str, descriptor: int) -> None:
        self.device = device
        self.descriptor = descriptor
        _ours.add(device)

    def release(self) -> None:
        """Give it back. Doing it twice is harmless."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
            _ours.discard(self.device)


class Leases:
    """The locks of this machine.

    Args:
        folder: where they are; `AUTOOPT_LEASES`, or a folder that all users share, unless given.
        environment: environment variables; this process's unless given.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     leases = Leases(folder)
        ...     mine = leases.take("GPU-1", "a test")
        ...     taken = leases.take("GPU-1", "another")
        ...     who = leases.holder("GPU-1")
        ...     mine.release()
        >>> taken is None, who
        (True, 'a test')
    """

    def __init__(
        self, folder: str | os.PathLike[str] | None = None, environment: Mapping[str, str] | None = None
    ) -> None:
        variables = os.environ if environment is None else environment
        self.folder = Path(folder or variables.get(VARIABLE) or _FOLDER)

    def take(self, device: str, who: str) -> Lease | None:
        """Lease a device; `None` when somebody else has it.

        Args:
            device: UUID of a GPU, or the name of a core (`core`).
            who: told to others that want it.

        Raises:
            RunError: the locks' folder cannot be used.
        """
        self._make()
        path = self.folder / f"{device.replace('/', '_')}.lock"
        for _ in range(100):
            descriptor = _open(path)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(descriptor)
                return None
            if _is_still(path, descriptor):
                _tell(descriptor, who)
                return Lease(device, descriptor)
            os.close(descriptor)  # somebody tidied up between opening and locking
        raise RunError(f"{path} is removed again and again.", "Find out who tidies up that folder.")

    def take_all(self, devices: Iterable[str], who: str) -> list[Lease] | None:
        """Lease all of some devices, or none of them (`None`)."""
        taken: list[Lease] = []
        # In the same order everywhere, so that of two who want the same ones one gets them.
        for device in sorted(devices):
            lease = self.take(device, who)
            if lease is None:
                for other in taken:
                    other.release()
                return None
            taken.append(lease)
        return taken

    def holder(self, device: str) -> str | None:
        """Who has a device, in words; `None`: nobody."""
        path = self.folder / f"{device.replace('/', '_')}.lock"
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            try:
                # Shared: two who ask at the same moment do not take each other for a holder.
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                with suppress(OSError, ValueError, KeyError):
                    return str(json.loads(os.pread(descriptor, 4096, 0))["who"])
                return "somebody"
            return None
        finally:
            os.close(descriptor)

    def _make(self) -> None:
        try:
            self.folder.mkdir(parents=True)
            self.folder.chmod(0o1777)  # as /tmp: everybody may add, nobody may remove what is another's
        except FileExistsError:
            pass
        except OSError as error:
            raise self._unusable(error.strerror or str(error)) from error
        if not stat.S_ISDIR(self.folder.lstat().st_mode):
            raise self._unusable("it is not a folder")

    def _unusable(self, why: str) -> RunError:
        return RunError(
            f"{self.folder}, where devices are leased, cannot be used: {why}.",
            f"Make it a folder that all users may write to (mode 1777), or name another: {VARIABLE}=...",
        )


def other_holder(device: str, environment: Mapping[str, str] | None = None) -> str | None:
    """Who else has a device: not this process, and not the daemon for it. In words; `None`: nobody."""
    variables = os.environ if environment is None else environment
    if device in _ours or device in variables.get(INHERITED, "").split(","):
        return None
    return Leases(environment=variables).holder(device)


def core(number: int) -> str:
    """The name by which a processor core is leased; each user has their own, since cores can be shared.

    >>> core(3).endswith("-3")
    True
    """
    return f"core-{os.getuid()}-{number}"


def lease_for_run(
    uuids: Sequence[str], who: str, names: Sequence[str], environment: Mapping[str, str] | None = None
) -> list[Lease]:
    """The leases that a run on these GPUs needs: none of those that its daemon has taken for it.

    Args:
        uuids: of the GPUs.
        names: what the user calls them, for the message.
        environment: environment variables; this process's unless given.

    Raises:
        DeviceError: somebody else has one of them; the message says who.
    """
    variables = os.environ if environment is None else environment
    ours = set(variables.get(INHERITED, "").split(","))
    leases = Leases(environment=variables)
    taken: list[Lease] = []
    for uuid, name in zip(uuids, names, strict=True):
        if uuid in ours:
            continue
        lease = leases.take(uuid, who)
        if lease is None:
            for other in taken:
                other.release()
            raise DeviceError(
                f"{name} is in use by {leases.holder(uuid) or 'another run of autoopt'}.",
                "Wait until it ends, take another device, or let a daemon queue it: autoopt submit.",
            )
        taken.append(lease)
    return taken


def _open(path: Path) -> int:
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        for _ in range(100):
            # First without O_CREAT: in a sticky folder Linux refuses that for a file of another user.
            with suppress(FileNotFoundError):
                return os.open(path, flags)
            with suppress(FileExistsError):
                descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666)
                os.fchmod(descriptor, 0o666)  # whatever the umask is
                return descriptor
    except OSError as error:
        raise RunError(
            f"{path}, which leases a device, cannot be opened: {error.strerror}.",
            f"Check the permissions, or name another folder: {VARIABLE}=...",
        ) from error
    raise RunError(f"{path} is removed again and again.", "Find out who tidies up that folder.")


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _tell(descriptor: int, who: str) -> None:
    text = json.dumps({"who": who, "pid": os.getpid(), "since": time.time()})
    with suppress(OSError):  # a full disk: the lock holds all the same
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode(), 0)
