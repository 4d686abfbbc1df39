"""examples/cluster/slurm.sh, submitted to a real Slurm of two machines."""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path

import pytest
import yaml

from tests.trials.cluster.apart import BUDGETS, ROOT, TOO_SHORT, Machine, network, why_not
from tests.trials.cluster.machines import MODEL
from tests.trials.conftest import until

pytest.importorskip("ray")
_WITHOUT = why_not("slurmctld", "slurmd", "sbatch", "munged", "scontrol")
pytestmark = [
    pytest.mark.long,
    pytest.mark.xdist_group("ray"),
    pytest.mark.skipif(bool(_WITHOUT), reason=_WITHOUT),
]

SETTINGS = """
ClusterName=tests
SlurmctldHost=first
SlurmUser=root
AuthType=auth/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir=/run/slurmd
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
KillWait=5
NodeName=first NodeAddr=10.77.0.1 CPUs=2 RealMemory=4000 State=UNKNOWN
NodeName=second NodeAddr=10.77.0.2 CPUs=2 RealMemory=4000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def start_slurm(machines: tuple[Machine, Machine], folder: Path) -> None:
    """A controller and its first node on one machine, and a node on the other."""
    (folder / "state").mkdir()
    (folder / "slurm.conf").write_text(SETTINGS.format(folder=folder))
    (folder / "munge.key").write_bytes(secrets.token_bytes(128))
    (folder / "munge.key").chmod(0o400)
    for machine in machines:
        machine.environment["SLURM_CONF"] = str(folder / "slurm.conf")
        munged = f"munged --force --key-file={folder}/munge.key --log-file=/run/munge/munged.log --seed-file=/run/munge/seed"
        code, said = machine.call(
            f"set -e; mkdir -p /run/munge /run/slurmd; {munged} --pid-file=/run/munge/munged.pid"
        )
        assert code == 0, said
    code, said = machines[0].call("slurmctld -c")
    assert code == 0, said
    for machine in machines:
        code, said = machine.call(f"slurmd -N {machine.name}")
        assert code == 0, said
    until(lambda: machines[0].call("sinfo --noheader --format '%D %t'")[1].split() == ["2", "idle"], 120)


def test_the_script_is_submitted_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(MODEL)
    shutil.copy(ROOT / "examples" / "cluster" / "slurm.sh", tmp_path)
    first, second = machines = network(("first", "second"), tmp_path)
    try:
        start_slurm(machines, tmp_path)
        for budget in BUDGETS:
            wanted = f"slurm.sh model.py --budget {budget} --device cpu --out out"
            code, said = first.call(f"sbatch --wait --cpus-per-task=1 {wanted}", seconds=1200)
            [log] = sorted(tmp_path.glob("autoopt-*.log"), key=os.path.getmtime)[-1:]
            if not TOO_SHORT.search(log.read_text()):
                break
        logs = "\n".join(file.read_text() for file in [log, *tmp_path.glob("ray-*.log")])
        assert code == 0, said + logs
        found = yaml.safe_load((tmp_path / "out" / "recommendation.yaml").read_text())
        assert set(found["provenance"]["cluster"]["machines"]) == {"10.77.0.1", "10.77.0.2"}, logs
        for machine in machines:
            until(lambda machine=machine: machine.processes("gcs_server|raylet|autoopt.trials") == [], 60)  # type: ignore[misc]
    finally:
        second.close()
        first.close()
