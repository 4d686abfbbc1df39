"""Machines apart, made of Linux namespaces: processes, a network, a name, /tmp/ray, /run, ~/.ray and ~/.ssh of its own.

On such a machine the usual ports are free, `ray stop` ends nothing but its own, and all that was started dies with it. Needs
root, `unshare`, `nsenter` and `ip`; `why_not` says what is missing.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import psutil

from tests.trials.conftest import until

ROOT = Path(__file__).resolve().parents[3]
BUDGETS = ("60s", "150s", "400s")
"""The next is taken where the one before did not last for the start and a trial: on a machine that others use."""
TOO_SHORT = re.compile("did not answer in|Start-up alone took longer|left no time for any")
"""What is said where it did not last."""
_SSHD = """
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
StrictModes no
UsePAM no
PidFile none
SetEnv PATH={path} RAY_USAGE_STATS_ENABLED=0
"""
_BEGIN = """
set -e
hostname "$1"
ip link set lo up
for folder in /tmp/ray /run "$HOME/.ray" "$HOME/.ssh"; do
    mkdir -p "$folder"
    mount -t tmpfs -o mode=0755 tmpfs "$folder"
done
mount --bind "$2" /etc/hosts
# Nobody answers questions about names here, and gRPC would wait for that.
mount --bind /dev/null /etc/resolv.conf
echo ready
# The shell stays, and reaps what its parents have left.
cat
echo over
"""


def why_not(*programs: str) -> str:
    """What is missing for such machines, and for these programs on them; empty when nothing is."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "namespaces want root, on Linux"
    missing = [name for name in ("unshare", "nsenter", "ip", *programs) if shutil.which(name) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    tried = subprocess.run(["unshare", "--net", "--pid", "--fork", "true"], capture_output=True, check=False)
    return "" if tried.returncode == 0 else "this system allows no namespaces"


class Machine:
    """A machine apart.

    Args:
        name: of the host.
        folder: gets its /etc/hosts.
        others: addresses by name, for /etc/hosts.
    """

    def __init__(self, name: str, folder: Path, others: dict[str, str] | None = None) -> None:
        hosts = folder / f"hosts-{name}"
        known = {"localhost": "127.0.0.1", **(others or {name: "127.0.0.1"})}
        hosts.write_text("".join(f"{address} {host}\n" for host, address in known.items()))
        self.name, self._folder = name, folder
        self._holder = subprocess.Popen(
            [
                *(
                    "unshare",
                    "--pid",
                    "--net",
                    "--mount",
                    "--uts",
                    "--ipc",
                    "--fork",
                    "--kill-child",
                    "--mount-proc",
                ),
                *("bash", "-c", _BEGIN, "machine", name, str(hosts)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == "ready\n"
        self.pid = psutil.Process(self._holder.pid).children()[0].pid
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin"])
        python = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        dropped = ("RAY_", "SLURM_", "AUTOOPT_", "PYTEST_", "GRPC_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
        self.environment = {
            **kept,
            "PATH": path,
            "PYTHONPATH": python,
            "CUDA_VISIBLE_DEVICES": "",
            "COLUMNS": "120",
            "RAY_USAGE_STATS_ENABLED": "0",
            # A busy machine takes longer than Ray expects to start its client's server.
            "RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S": "300",
        }

    def start(self, command: str) -> subprocess.Popen[str]:
        """Starts a shell's command on it, in the folder."""
        return subprocess.Popen(
            ["nsenter", "--target", str(self.pid), "--all", "bash", "-c", f'cd "{self._folder}"\n{command}'],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def call(self, command: str, seconds: float = 400) -> tuple[int, str]:
        """Runs a shell's command on it, in the folder: how it ended, and what it printed.

        What it leaves running keeps no pipe of ours: a file takes what is printed.
        """
        said = self._folder / f"said-{self.name}.txt"
        with said.open("w") as file:
            done = subprocess.run(
                [
                    "nsenter",
                    "--target",
                    str(self.pid),
                    "--all",
                    "bash",
                    "-c",
                    f'cd "{self._folder}"\n{command}',
                ],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                timeout=seconds,
                check=False,
            )
        return done.returncode, said.read_text()

    def processes(self, part: str) -> list[int]:
        """Its processes whose command line has this in it; their numbers are those that it sees itself."""
        return [int(line) for line in self.call(f"exec pgrep -f -- '{part}'")[1].split()]

    def close(self) -> None:
        """Ends it, and all that runs on it."""
        assert self._holder.stdin is not None
        assert self._holder.stdout is not None
        self._holder.stdin.close()
        self._holder.wait(30)
        self._holder.stdout.close()


def open_ssh(first: Machine, second: Machine, folder: Path) -> None:
    """Has the user of the first machine in at the second one, with a key of his own."""
    for name in ("host_key", "user_key"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(command, check=True)
    settings = _SSHD.format(folder=folder, path=second.environment["PATH"])
    (folder / "sshd_config").write_text(settings)
    code, said = second.call(f"mkdir -p /run/sshd && $(command -v sshd) -f {folder}/sshd_config")
    assert code == 0, said
    kind, key = (folder / "host_key.pub").read_text().split()[:2]
    enter = (
        f"echo '{second.name} {kind} {key}' > ~/.ssh/known_hosts && cp {folder}/user_key ~/.ssh/id_ed25519"
    )
    code, said = first.call(f"{enter} && ssh {second.name} true")
    assert code == 0, said


def network(names: tuple[str, str], folder: Path) -> tuple[Machine, Machine]:
    """Two machines with a cable between them, that know each other by name."""
    addresses = {name: f"10.77.0.{number}" for number, name in enumerate(names, 1)}
    first, second = (Machine(name, folder, addresses) for name in names)
    inside = ["nsenter", "--target", str(first.pid), "--net"]
    cable = ["ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", str(second.pid)]
    subprocess.run([*inside, *cable], check=True)
    for machine in (first, second):
        # The route is for Ray, which finds a machine's own address by the way to the world outside.
        said = machine.call(
            f"ip address add {addresses[machine.name]}/24 dev eth0 && ip link set eth0 up && ip route add default dev eth0"
        )
        assert said == (0, ""), said
    until(lambda: first.call(f"getent hosts {names[1]}")[0] == 0)
    return first, second
