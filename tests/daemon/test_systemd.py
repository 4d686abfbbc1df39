"""The unit for systemd, read by systemd itself where there is one."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from autoopt.daemon import systemd
from autoopt.errors import UsageError

ODD = '/data/50% of $HOME "quoted" back\\slash'


def test_the_unit_says_what_it_must() -> None:
    text = systemd.unit(["/usr/bin/python3", "-m", "autoopt", "serve"], {"AUTOOPT_HOME": "/data"})
    for line in (
        "Type=notify",
        "Restart=on-failure",
        "WatchdogSec=60",
        "OOMPolicy=continue",
        "KillMode=mixed",
        'ExecStart="/usr/bin/python3" "-m" "autoopt" "serve"',
        'Environment="AUTOOPT_HOME=/data"',
        "WantedBy=default.target",
    ):
        assert line in text.splitlines()


def test_what_systemd_would_expand_is_kept() -> None:
    text = systemd.unit(["/bin/x", ODD], {"AUTOOPT_HOME": ODD})
    assert 'ExecStart="/bin/x" "/data/50%% of $$HOME \\"quoted\\" back\\\\slash"' in text
    assert 'Environment="AUTOOPT_HOME=/data/50%% of $HOME \\"quoted\\" back\\\\slash"' in text
    for bad in ("a\nExecStartPre=/bin/evil", "a\0", "a\r"):
        with pytest.raises(UsageError, match="control character"):
            systemd.unit(["/bin/x", bad], {})


def test_systemd_reads_it_without_complaint(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd-analyze here")
    path, _ = systemd.install(["/bin/true", "--home", ODD], {"AUTOOPT_HOME": ODD}, tmp_path)
    # It looks for the folder of a session, which there need not be where tests run.
    variables = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    done = subprocess.run(
        [analyze, "verify", "--user", str(path)], capture_output=True, text=True, check=False, env=variables
    )
    if "Failed to initialize manager" in done.stderr:
        pytest.skip(f"systemd-analyze does not work here: {done.stderr}")
    assert (done.returncode, done.stderr) == (0, "")


def test_where_it_goes(tmp_path: Path) -> None:
    assert systemd.folder({"XDG_CONFIG_HOME": "/c"}) == Path("/c/systemd/user")
    assert systemd.folder({"HOME": "/h"}) == Path("/h/.config/systemd/user")
