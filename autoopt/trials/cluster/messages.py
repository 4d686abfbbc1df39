"""What coordinator and bridge say to each other, one JSON object a line. Imports neither torch nor Ray."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from autoopt.records import Record


class Connect(Record):
    """The first message to the bridge."""

    kind: Literal["connect"] = "connect"
    address: str = Field(description="auto, HOST:PORT or ray://HOST:PORT")
    folder: str = Field(description="shipped to every node, where it is the working directory")
    variables: dict[str, str] = Field(default={}, description="of the environment, for the workers")
    devices: dict[str, str] = Field(default={}, description="of machines whose kind is known: by Ray's id")
    looks: bool = Field(False, description="no trials: tell the machines, and what is free on them")


class Open(Record):
    """A worker is wanted on a node. The pipe ends for its commands and replies come with the message."""

    kind: Literal["open"] = "open"
    node: str = Field(description="Ray's id of it, in hexadecimal")
    cpus: float = Field(ge=0)
    gpus: float = Field(ge=0)


class Node(Record):
    """A machine of the cluster."""

    id: str
    address: str
    cpus: float
    gpus: float
    device: str = Field(description="its kind: the GPU's or, where it has none, the CPU's model")
    free_cpus: float | None = Field(
        None, description="that nobody has been given; told to those who only look"
    )
    free_gpus: float | None = None


class Nodes(Record):
    """All machines that are alive now; sent when there is a change."""

    kind: Literal["nodes"] = "nodes"
    nodes: list[Node]


class Refused(Record):
    """The cluster cannot be used; the bridge ends."""

    kind: Literal["refused"] = "refused"
    message: str
    hint: str = ""
    gone: bool = Field(False, description="it is not there now, and may be later")


Order = Annotated[Connect | Open, Field(discriminator="kind")]
News = Annotated[Nodes | Refused, Field(discriminator="kind")]
ORDERS: TypeAdapter[Connect | Open] = TypeAdapter(Order)
NEWS: TypeAdapter[Nodes | Refused] = TypeAdapter(News)
