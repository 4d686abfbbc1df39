"""Entry of the bridge: `python -m autoopt.trials.cluster.bridge SOCKET` (a file descriptor). The only file that knows Ray.

A process of its own: Ray ends its driver's process when the cluster's head is lost, and that must not be the coordinator.
When the coordinator is gone the socket closes, the bridge leaves, and Ray ends the actors of a driver that has left.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sys
from pathlib import Path
from typing import Any

import ray
from ray._private.state import available_resources_per_node
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from autoopt.trials.cluster.host import Host, device_model
from autoopt.trials.cluster.messages import ORDERS, Connect, Node, Nodes, Open
from autoopt.trials.cluster.refusals import first_line, refusal
from autoopt.trials.protocol import Ended, encode

_LOOK_SECONDS = 1.0
_POLL_SECONDS = 1.0
_END_SECONDS = 5.0
"""So long a worker that is being ended has to say how it ended."""
_LINE = 2**24
_EXCLUDED = [".git", ".venv", "venv", "__pycache__", "autoopt-out", "node_modules"]


class Bridge:
    """Between the coordinator's socket and the cluster.

    Args:
        door: to the coordinator.
        order: how to connect.
    """

    def __init__(self, door: socket.socket, order: Connect) -> None:
        self._door, self._order = door, order
        self._devices = dict(order.devices)
        self._told: list[Node] = []
        self._relays: set[asyncio.Task[None]] = set()

    def connect(self) -> None:
        """Joins the cluster. Raises: what Ray raises."""
        package = Path(__file__).resolve().parents[2]
        ray.init(
            address=self._order.address,
            namespace="autoopt",
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={
                **({} if self._order.looks else {"working_dir": self._order.folder}),
                "py_modules": [str(package)],
                "excludes": _EXCLUDED,
                "env_vars": self._order.variables,
            },
        )

    async def serve(self) -> None:
        """Until the coordinator closes the socket."""
        loop, arrived = asyncio.get_running_loop(), asyncio.Event()
        self._door.setblocking(False)
        loop.add_reader(self._door, arrived.set)
        looking = asyncio.create_task(self._look())
        try:
            while True:
                arrived.clear()
                await asyncio.wait(
                    (asyncio.ensure_future(arrived.wait()), looking), return_when=asyncio.FIRST_COMPLETED
                )
                if looking.done():
                    looking.result()
                try:
                    data, fds, _, _ = socket.recv_fds(self._door, 65536, 2)
                except BlockingIOError:
                    continue
                if not data:
                    return
                order = ORDERS.validate_json(data)
                assert isinstance(order, Open)
                relay = asyncio.create_task(self._relay(order, *fds))
                self._relays.add(relay)
                relay.add_done_callback(self._relays.discard)
        finally:
            looking.cancel()

    async def _look(self) -> None:
        """Tells which machines there are, whenever that changes."""
        while True:
            free = await asyncio.to_thread(_free) if self._order.looks else {}
            found = [node for node in await asyncio.to_thread(ray.nodes) if node["Alive"]]
            nodes = []
            for node in sorted(found, key=lambda n: (str(n["NodeManagerAddress"]), str(n["NodeID"]))):
                told = await self._node(node, free.get(node["NodeID"]))
                if told is not None:
                    nodes.append(told)
            if nodes != self._told or not nodes:
                self._told = nodes
                self._door.setblocking(True)
                self._door.sendall(encode(Nodes(nodes=nodes)))
                self._door.setblocking(False)
            await asyncio.sleep(_LOOK_SECONDS)

    async def _node(self, node: dict[str, Any], free: dict[str, float] | None) -> Node | None:
        name, resources = node["NodeID"], node["Resources"]
        if name not in self._devices:
            kinds = [r.partition(":")[2] for r in resources if r.startswith("accelerator_type:")]
            try:
                self._devices[name] = kinds[0] if kinds else await _model_of(name)
            except RayError:  # it is gone again
                return None
        return Node(
            id=name,
            address=node["NodeManagerAddress"],
            cpus=resources.get("CPU", 0.0),
            gpus=resources.get("GPU", 0.0),
            device=self._devices[name],
            free_cpus=None if free is None else free.get("CPU", 0.0),
            free_gpus=None if free is None else free.get("GPU", 0.0),
        )

    async def _relay(self, order: Open, commands: int, replies: int) -> None:
        """Passes on what one slot's worker is told and says, until it has ended."""
        host: Any = (
            ray.remote(Host)
            .options(
                num_cpus=order.cpus,
                num_gpus=order.gpus,
                max_concurrency=4,
                max_restarts=0,
                scheduling_strategy=NodeAffinitySchedulingStrategy(order.node, soft=False),
            )
            .remote(self._order.variables)
        )
        last = Ended()
        hearing = asyncio.create_task(_hear(host, replies))
        telling = asyncio.create_task(_tell(host, commands))
        try:
            await asyncio.wait((hearing, telling), return_when=asyncio.FIRST_COMPLETED)
            if not hearing.done() and telling.exception() is None:  # it was told to end
                await asyncio.wait((hearing,), timeout=_END_SECONDS)
            for task in (telling, hearing):
                if task.done() and (error := task.exception()) is not None:
                    last = Ended(lost=_words(error))
        finally:
            ended = hearing.done() and hearing.exception() is None
            for task in (hearing, telling):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await task
            if not ended:
                with contextlib.suppress(OSError):
                    os.write(replies, encode(last))
            os.close(replies)
            os.close(commands)
            with contextlib.suppress(RayError):
                ray.kill(host)


async def _tell(host: Any, commands: int) -> None:
    """Commands to the worker, until the coordinator closes the pipe; then it is ended."""
    reader = asyncio.StreamReader(limit=_LINE)
    pipe = os.fdopen(os.dup(commands), "rb", buffering=0)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), pipe
    )
    try:
        while line := await reader.readline():
            await host.send.remote(line)
        await host.end.remote()
    finally:
        transport.close()


async def _hear(host: Any, replies: int) -> None:
    """What the worker says, until its last line."""
    while True:
        lines: bytes = await host.receive.remote(_POLL_SECONDS)
        if lines:
            await asyncio.to_thread(_write, replies, lines)
            if lines.rstrip(b"\n").rpartition(b"\n")[2].startswith(b'{"kind":"ended"'):
                return


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _free() -> dict[str, dict[str, float]]:
    """What Ray has given to nobody, on each node; nothing is known of it through Ray's client."""
    if ray.util.client.ray.is_connected():  # type: ignore[no-untyped-call]
        return {}
    free: dict[str, dict[str, float]] = available_resources_per_node()  # type: ignore[no-untyped-call]
    return free


async def _model_of(node: str) -> str:
    here = NodeAffinitySchedulingStrategy(node, soft=False)
    found: str = await ray.remote(device_model).options(num_cpus=0, scheduling_strategy=here).remote()
    return found


def _words(error: BaseException) -> str:
    return first_line(str(error) or type(error).__name__)


def main(arguments: list[str]) -> int:
    """Connects, and serves one coordinator."""
    door = socket.socket(fileno=int(arguments[0]))
    order = ORDERS.validate_json(door.recv(65536))
    assert isinstance(order, Connect)
    bridge = Bridge(door, order)
    try:
        bridge.connect()
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        door.sendall(encode(refusal(str(error), order.address, order.folder)))
        return 1
    asyncio.run(bridge.serve())
    ray.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
