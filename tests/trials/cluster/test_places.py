import pytest

from autoopt.errors import DeviceError
from autoopt.trials.cluster.messages import Node
from autoopt.trials.cluster.places import Share, kind_of, share


def node(name: str, cpus: float = 4, gpus: float = 0, device: str = "Xeon") -> Node:
    return Node(id=name, address="10.0.0.1", cpus=cpus, gpus=gpus, device=device)


@pytest.mark.parametrize(
    ("take", "fit"),
    [
        (Share(1, 0), 8),
        (Share(3, 0), 2),
        (Share(1, 1), 2),
        (Share(1, 0.5), 4),
        (Share(1, 1 / 3), 6),
        (Share(16, 0), 0),
        (Share(5, 1), 1),
    ],
)
def test_trials_that_fit_on_a_machine(take: Share, fit: int) -> None:
    assert take.on(node("a", cpus=8, gpus=2)) == fit


def test_a_gpu_each_where_there_are_any_unless_the_cpu_is_asked_for() -> None:
    nodes = [node("a"), node("b", gpus=1)]
    assert share(nodes, "auto", None, None) == Share(1, 1)
    assert share(nodes, "cpu", 2, None) == Share(2, 0)
    assert share(nodes[:1], "auto", None, None) == Share(1, 0)
    assert share(nodes, "auto", None, 0.25) == Share(1, 0.25)


def test_gpus_that_nobody_has() -> None:
    with pytest.raises(DeviceError, match="No machine of the cluster has a GPU"):
        share([node("a")], "cuda", None, None)


def test_the_kind_with_most_room_is_taken() -> None:
    nodes = [node("a", 4, device="Xeon"), node("b", 6, device="EPYC"), node("c", 4, device="Xeon")]
    assert kind_of(nodes, Share()) == "Xeon"
    assert kind_of(nodes, Share(cpus=6)) == "EPYC"


def test_no_room_anywhere() -> None:
    with pytest.raises(DeviceError, match="No machine of the cluster has room") as caught:
        kind_of([node("a", cpus=2)], Share(cpus=3))
    assert "2 cores" in caught.value.hint
