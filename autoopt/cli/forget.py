"""`autoopt forget`: ended jobs of the daemon, with all that they left on its disk, are removed."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from autoopt.cli.daemon_options import Socket, connect
from autoopt.cli.run_options import AsJson


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("forget")(forget)


def forget(
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Jobs; `autoopt jobs` lists them.")
    ] = None,
    older_than: Annotated[
        float | None,
        typer.Option(min=0, metavar="DAYS", help="All that ended longer ago. 0: all that ended."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --older-than: only say what would go.")
    ] = False,
    socket: Socket = None,
    as_json: AsJson = False,
) -> int:
    """Remove ended jobs: code, run and log. What waits or runs stays. Without jobs: what they take of the disk."""
    from autoopt.errors import UsageError
    from autoopt.units import show_bytes

    if ids and older_than is not None:
        raise UsageError("Jobs are named, or their age is: not both.", "Leave out --older-than or the ids.")
    if dry_run and older_than is None:
        raise UsageError("--dry-run goes with --older-than DAYS.", "autoopt forget --older-than 30 --dry-run")
    gone: list[str] = []
    freed = 0
    with connect(socket) as client:
        if older_than is not None:
            found = client.prune(older_than, dry_run=dry_run)
            gone, freed = found["jobs"], found["freed_bytes"]
        for id_ in dict.fromkeys(ids or []):
            freed += client.forget(id_)["freed_bytes"]
            gone.append(id_)
            if not as_json:
                print(f"Forgot job {id_}.")
        disk = client.disk()
    if as_json:
        print(json.dumps({"jobs": gone, "freed_bytes": freed, "dry_run": dry_run, "disk": disk}))
        return 0
    if ids or older_than is not None:
        verb = "would go, and free" if dry_run else "forgotten, freed"
        print(f"{_jobs(len(gone))} {verb} {show_bytes(freed)}.")
    keep = disk["keep"]
    days = "for ever" if keep["days"] is None else f"{keep['days']:g} days"
    print(
        f"On the disk: {_jobs(disk['jobs'])}, {show_bytes(disk['bytes'])}; {show_bytes(disk['free'])} are free. "
        f"Ended ones are kept {days}, the newest {keep['jobs']}."
    )
    return 0


def _jobs(count: int) -> str:
    return f"{count} job" if count == 1 else f"{count} jobs"
