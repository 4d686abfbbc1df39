"""The daemon as a service of the user's own systemd (systemd.unit(5), systemd.service(5))."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from autoopt.errors import UsageError
from autoopt.files import write_text

NAME = "autoopt.service"

_UNIT = """\
[Unit]
Description=autoopt: chooses and tunes optimizers, one job per device
StartLimitIntervalSec=300
StartLimitBurst=5

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
{environment}Restart=on-failure
RestartSec=2
WatchdogSec=60
# A job that takes all memory loses its own process, not the daemon.
OOMPolicy=continue
# The daemon ends its jobs itself, so that they can go on later; whatever is left after that is killed.
KillMode=mixed
TimeoutStopSec=30
Delegate=yes

[Install]
WantedBy=default.target
"""


def unit(command: Sequence[str], environment: Mapping[str, str]) -> str:
    """The unit's text.

    Example:
        >>> text = unit(["/usr/bin/python3", "-m", "autoopt", "serve"], {"AUTOOPT_HOME": "/data/50%"})
        >>> [line for line in text.splitlines() if "50%" in line]
        ['Environment="AUTOOPT_HOME=/data/50%%"']
    """
    lines = "".join(f"Environment={_quoted(f'{name}={value}')}\n" for name, value in environment.items())
    return _UNIT.format(command=" ".join(_quoted(part, dollar=True) for part in command), environment=lines)


def folder(environment: Mapping[str, str] | None = None) -> Path:
    """Where a user's own units lie."""
    variables = os.environ if environment is None else environment
    base = variables.get("XDG_CONFIG_HOME") or Path(variables.get("HOME") or Path.home()) / ".config"
    return Path(base) / "systemd" / "user"


def install(
    command: Sequence[str], environment: Mapping[str, str], where: Path | None = None
) -> tuple[Path, bool]:
    """Write the unit, and have systemd read it.

    Returns:
        The unit's path, and whether systemd was there to read it.

    Raises:
        RunError: it could not be written.
        UsageError: a value that no unit can hold.
    """
    path = (where or folder()) / NAME
    write_text(path, unit(command, environment))
    systemctl = shutil.which("systemctl")
    if systemctl is None:
        return path, False
    asked = subprocess.run(
        [systemctl, "--user", "daemon-reload"], capture_output=True, timeout=30, check=False
    )
    return path, asked.returncode == 0


def _quoted(text: str, *, dollar: bool = False) -> str:
    """A word of a unit file: what it would expand is doubled, what it would split is quoted."""
    if any(ord(character) < 32 for character in text):
        raise UsageError(
            f"{text!r} holds a control character, which no unit file can.", "Choose another path."
        )
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    if dollar:
        text = text.replace("$", "$$")
    return f'"{text}"'
