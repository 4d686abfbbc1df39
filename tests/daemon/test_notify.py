from __future__ import annotations

import os
import socket
from pathlib import Path

from autoopt.daemon.notify import Notifier


def test_without_systemd_nothing_happens() -> None:
    notifier = Notifier({})
    assert notifier.watchdog_seconds is None
    notifier.tell("READY=1")


def test_the_variables_are_for_this_process_alone() -> None:
    variables = {
        "NOTIFY_SOCKET": "/nowhere",
        "WATCHDOG_USEC": "60000000",
        "WATCHDOG_PID": str(os.getpid()),
        "A": "1",
    }
    notifier = Notifier(variables)
    assert notifier.watchdog_seconds == 60
    assert variables == {"A": "1"}
    notifier.tell("READY=1")  # nobody listens: no reason to end
    assert Notifier({"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}).watchdog_seconds is None


def test_it_arrives_also_at_an_abstract_address(tmp_path: Path) -> None:
    name = f"autoopt-test-{os.getpid()}"
    for address, bound in ((str(tmp_path / "n"), str(tmp_path / "n")), (f"@{name}", f"\0{name}")):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
            systemd.bind(bound)
            systemd.settimeout(10)
            Notifier({"NOTIFY_SOCKET": address}).tell("READY=1", "STATUS=well")
            assert systemd.recv(100) == b"READY=1\nSTATUS=well"
