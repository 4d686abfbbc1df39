"""`autoopt doctor`: what this machine has, who uses it, what is missing and how to mend it."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from autoopt.hardware.diagnosis import Finding

_MARKS = {"ok": " ", "note": "!", "broken": "X"}


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("doctor")(doctor)


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Nothing but one JSON object on stdout.")] = False,
) -> int:
    """Show versions, devices, what is missing and how to mend it.

    The exit code is 0 when autoopt can run here, 1 when something that it needs is broken.
    """
    from autoopt.hardware.diagnosis import able, examine

    findings = [*examine(), *_daemon()]
    well = able(findings)
    if as_json:
        import json

        body = {"able": well, "findings": [finding.as_dict() for finding in findings]}
        print(json.dumps(body, ensure_ascii=False))
    else:
        _show(findings, well)
    return 0 if well else 1


def _daemon() -> list[Finding]:
    """How the daemon is, where there has been one."""
    from autoopt.hardware.diagnosis import Finding

    try:
        from autoopt.daemon.client import Client
        from autoopt.daemon.home import Home
        from autoopt.daemon.talk import NoDaemon
    except ModuleNotFoundError:  # the extra is not installed, so nobody asks
        return []
    from autoopt.errors import AutooptError

    home = Home()
    if not home.database.exists():
        return []
    try:
        with Client(socket=home.socket) as client:
            health, jobs = client.health(), client.jobs(["queued", "running", "cancelling"], 1000)
    except NoDaemon:
        return [Finding("daemon", "state", f"not running; `autoopt serve` goes on with {home.path}")]
    except AutooptError as error:
        return [
            Finding(
                "daemon", "state", error.message, "note", "Restart it: stop `autoopt serve`, start it anew."
            )
        ]
    running = sum(job.state != "queued" for job in jobs)
    found = [
        Finding(
            "daemon",
            "state",
            f"process {health['pid']} serves {health['home']}: {running} running, {len(jobs) - running} waiting",
        )
    ]
    for text in health.get("trouble", []):
        found.append(Finding("daemon", "trouble", text, "note", "Its log says more."))
    return found


def _show(findings: list[Finding], well: bool) -> None:
    for section, group in groupby(findings, key=lambda finding: finding.section):
        print(section)
        for finding in group:
            print(f"{_MARKS[finding.state]} {finding.name}: {finding.value}")
            if finding.mend:
                print(f"    {finding.mend}")
        print()
    broken = [finding.name for finding in findings if finding.state == "broken"]
    notes = sum(finding.state == "note" for finding in findings)
    if well:
        more = f", with {notes} thing{'s' if notes > 1 else ''} to know (!)" if notes else ""
        print(f"autoopt can run here{more}.")
    else:
        print(f"autoopt cannot run here: mend {', '.join(broken)} (X).")
