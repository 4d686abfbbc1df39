"""The commands of docs/cluster.md, as printed, on machines that are made for them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import ROOT
from tests.trials.cluster.apart import BUDGETS, TOO_SHORT, Machine, network, open_ssh, why_not
from tests.trials.cluster.machines import MODEL
from tests.trials.conftest import until

pytest.importorskip("ray")
PAGE = (ROOT / "docs" / "cluster.md").read_text()


def printed(mark: str) -> str:
    """The block after a mark, with a small budget."""
    found = re.search(rf"^<!-- {mark} -->\n```bash\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None, f"docs/cluster.md has no block for {mark}"
    assert "autoopt profile" in found[1]
    return found[1].replace("--budget 10m", "--budget BUDGET --device cpu --workers 2 --out out")


def ran(machine: Machine, commands: str, folder: Path) -> None:
    """Runs the commands before the profile, the profile with a budget that lasts for its start, and those after it."""
    before, profile, after = re.fullmatch(r"(.*?)(^autoopt [^\n]*\n)(.*)", commands, re.M | re.S).groups()  # type: ignore[union-attr]
    code, said = machine.call(f"set -e\n{before}")
    assert code == 0, said
    for budget in BUDGETS:
        code, said = machine.call(profile.replace("BUDGET", budget))
        if not TOO_SHORT.search(said):
            break
    assert code == 0, said
    code, said = machine.call(f"set -e\n{after}")
    assert code == 0, said


def machines_of(folder: Path) -> dict[str, int]:
    """Trials' machines, as the recommendation names them."""
    import yaml

    found: dict[str, int] = yaml.safe_load((folder / "out" / "recommendation.yaml").read_text())[
        "provenance"
    ]["cluster"]["machines"]
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model.py").write_text(MODEL)
    return tmp_path


@pytest.mark.long
@pytest.mark.xdist_group("ray")
@pytest.mark.skipif(bool(why_not()), reason=why_not())
def test_on_a_machine(folder: Path) -> None:
    machine = Machine("laptop", folder)
    try:
        ran(machine, printed("on a machine"), folder)
        assert machines_of(folder) == {"127.0.0.1": 2}
        until(lambda: machine.processes("raylet") == [], 60)
    finally:
        machine.close()


@pytest.mark.long
@pytest.mark.xdist_group("ray")
@pytest.mark.skipif(bool(why_not("sshd", "ssh")), reason=why_not("sshd", "ssh"))
def test_on_two_machines(folder: Path) -> None:
    first, second = network(("first", "second"), folder)
    try:
        open_ssh(first, second, folder)
        ran(first, printed("on two machines"), folder)
        assert set(machines_of(folder)) == {"10.77.0.1", "10.77.0.2"}
        assert first.call("ssh second ray stop && ray stop")[0] == 0
        for machine in (first, second):
            until(lambda machine=machine: machine.processes("raylet") == [], 60)  # type: ignore[misc]
    finally:
        first.close()
        second.close()


@pytest.mark.long
@pytest.mark.xdist_group("ray")
@pytest.mark.skipif(bool(why_not()), reason=why_not())
def test_from_outside(folder: Path) -> None:
    first, second = network(("first", "second"), folder)
    token = folder / "token"
    try:
        code, said = first.call(
            f"ray get-auth-token --generate > {token} && ray start --head --num-cpus 1 --include-dashboard false"
        )
        assert code == 0, said
        code, said = second.call(f"cp {token} ~/.ray/auth_token")
        assert code == 0, said
        ran(second, printed("from outside"), folder)
        assert machines_of(folder) == {"10.77.0.1": 1}
    finally:
        first.close()
        second.close()
