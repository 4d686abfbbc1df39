"""`autoopt serve`: the daemon."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autoopt.cli.daemon_options import connect, needs_packages
from autoopt.cli.run_options import AsJson, ClusterAt, CpusPerTrial, GpusPerTrial, cluster_of

if TYPE_CHECKING:
    from autoopt.daemon.server import Serving, Settings
    from autoopt.records import Cluster

_OF_RAY = ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH")


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("serve")(serve)


def serve(
    socket: Annotated[
        Path | None, typer.Option(help="Unix socket to listen on. Default: run/autoopt.sock in AUTOOPT_HOME.")
    ] = None,
    http: Annotated[
        str | None, typer.Option(help="Serve the page and the API on TCP too, e.g. 127.0.0.1:8470.")
    ] = None,
    devices: Annotated[
        str, typer.Option(help="What jobs may use here: auto (all), cpu, GPUs: cuda:0,cuda:1, or none.")
    ] = "auto",
    cluster: ClusterAt = None,
    cpus_per_trial: CpusPerTrial = None,
    gpus_per_trial: GpusPerTrial = None,
    tls_cert: Annotated[
        Path | None, typer.Option(help="Certificate (PEM). Needed where other machines reach --http.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its key (PEM).")] = None,
    name: Annotated[
        list[str] | None, typer.Option(help="Name under which other machines reach --http. Repeatable.")
    ] = None,
    link: Annotated[
        bool, typer.Option("--link", help="Print a login link of the page of the daemon that runs, and end.")
    ] = False,
    install: Annotated[
        bool, typer.Option("--install", help="Write a systemd user unit that serves like this, and end.")
    ] = False,
    keep: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="DAYS",
            help="Ended jobs are forgotten after so many days. Default: 365; inf: never.",
        ),
    ] = None,
    keep_jobs: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Of ended jobs the newest so many are kept. Default: 10000."),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Run submitted models, one per device; survive crashes.

    On a cluster they run side by side.

    By default only you can reach it: a Unix socket in a folder of your own. Jobs run as you: this keeps faults apart,
    not attackers. SIGTERM or Ctrl-C ends it; what runs then goes on at the next start. A second one ends at once.
    """
    if link:
        with connect(socket) as client:
            url = client.login_link()
        print(json.dumps({"url": url}) if as_json else url)
        return 0
    with needs_packages():
        from autoopt.daemon import server
        from autoopt.daemon.home import Home
        from autoopt.daemon.retention import Keep
        from autoopt.daemon.service import Service
        from autoopt.daemon.sockets import parse_address
    home = Home()
    settings = server.Settings(
        socket=socket or home.socket,
        http=parse_address(http) if http else None,
        certificate=tls_cert,
        key=tls_key,
        names=name or [],
    )
    settings.check()
    there = cluster_of(cluster, cpus_per_trial, gpus_per_trial, None)
    if devices.strip().lower() == "none" and there is None:
        from autoopt.errors import UsageError

        raise UsageError("--devices none leaves nothing to run a job on.", "Add --cluster, or leave it out.")
    default = Keep()
    keeping = Keep(default.days if keep is None else keep, default.jobs if keep_jobs is None else keep_jobs)
    if install:
        kept = [f"--keep={keep:g}"] if keep is not None else []
        kept += [f"--keep-jobs={keep_jobs}"] if keep_jobs is not None else []
        return _install(settings, home, http, devices, there, kept, as_json)
    return server.serve(
        Service(home, devices=devices, cluster=there, keep=keeping),
        home,
        settings,
        ready=lambda serving: _say(serving, as_json),
    )


def _say(serving: Serving, as_json: bool) -> None:
    if as_json:
        told = {"socket": str(serving.socket), "url": serving.url, "pid": os.getpid()}
        print(json.dumps(told, ensure_ascii=False), flush=True)
        return
    print(f"Serving at {serving.socket}. Submit with `autoopt submit model.py`.", flush=True)
    if serving.url is not None:
        # What is not a terminal may be a log, where a link does not belong.
        if sys.stdout.isatty():
            print(f"Page: {serving.link()} (this link works once, within ten minutes)", flush=True)
        else:
            print(f"Page: {serving.url} (`autoopt serve --link` prints a login link)", flush=True)


def _install(
    settings: Settings,
    home: object,
    http: str | None,
    devices: str,
    cluster: Cluster | None,
    kept: list[str],
    as_json: bool,
) -> int:
    from autoopt.daemon import systemd
    from autoopt.daemon.home import VARIABLE, Home

    assert isinstance(home, Home)
    command = [sys.executable, "-m", "autoopt", "serve", "--devices", devices]
    if settings.socket != home.socket:
        command += ["--socket", str(settings.socket.absolute())]
    if http is not None:
        command += ["--http", http]
    if cluster is not None:
        command += ["--cluster", cluster.address]
        for flag, share in (("--cpus-per-trial", cluster.cpus), ("--gpus-per-trial", cluster.gpus)):
            command += [] if share is None else [flag, f"{share:g}"]
    for flag, path in (("--tls-cert", settings.certificate), ("--tls-key", settings.key)):
        if path is not None:
            command += [flag, str(path.absolute())]
    for given in settings.names:
        command += ["--name", given]
    command += kept
    environment = {VARIABLE: str(home.path)}
    # A package that was put on the path by hand, as in a checkout, is found by the service too.
    if "PYTHONPATH" in os.environ:
        environment["PYTHONPATH"] = os.environ["PYTHONPATH"]
    if cluster is not None:
        # Where the token lies, and not the token: a unit can be read by others.
        environment.update({name: os.environ[name] for name in _OF_RAY if name in os.environ})
    path, known = systemd.install(command, environment)
    if as_json:
        print(json.dumps({"unit": str(path), "loaded": known}, ensure_ascii=False))
        return 0
    print(f"Wrote {path}.")
    if cluster is not None and "RAY_AUTH_TOKEN" in os.environ:
        print("RAY_AUTH_TOKEN is not in it: put the token into a file, and name that in RAY_AUTH_TOKEN_PATH.")
    if not known:
        print("systemd did not answer; when it runs: systemctl --user daemon-reload")
    print("Start it, now and at every login:   systemctl --user enable --now autoopt")
    print("Also while you are not logged in:   loginctl enable-linger")
    return 0
