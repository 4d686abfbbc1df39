"""What the daemon counts, for Prometheus, through its official client library."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from autoopt.daemon.jobs import State

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_STATES = frozenset(State)


class Metrics:
    """A registry of its own: two daemons in one process do not add up.

    Args:
        numbers: gives the service's figures when asked: name -> value; a state's name -> jobs in it; what is counted up
            since the daemon began ends in `_total`; what is told of a kind of device has it after a slash.
        streams: gives the number of open event streams.
    """

    def __init__(self, numbers: Callable[[], Mapping[str, float]], streams: Callable[[], int]) -> None:
        self._numbers = numbers
        self._streams = streams
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self._requests = Counter(
            "autoopt_http_requests", "Answers given, by route.", ["route", "status"], registry=self._registry
        )

    def text(self) -> bytes:
        """The page that Prometheus reads."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """For the registry: the figures of now."""
        jobs = GaugeMetricFamily("autoopt_jobs", "Jobs, by state.", labels=["state"])
        of_kinds: dict[str, GaugeMetricFamily] = {}
        for name, value in self._numbers().items():
            if name in _STATES:
                jobs.add_metric([name], value)
            elif "/" in name:
                name, _, kind = name.partition("/")
                if name not in of_kinds:
                    of_kinds[name] = GaugeMetricFamily(f"autoopt_{name}", _words(name), labels=["kind"])
                of_kinds[name].add_metric([kind], value)
            elif name.endswith("_total"):
                yield CounterMetricFamily(f"autoopt_{name.removesuffix('_total')}", _words(name), value=value)
            else:
                yield GaugeMetricFamily(f"autoopt_{name}", _words(name), value=value)
        yield jobs
        yield from of_kinds.values()
        yield GaugeMetricFamily("autoopt_event_streams", "Open event streams.", value=self._streams())

    def describe(self) -> list[Metric]:
        """For the registry, which would otherwise collect once to learn the names."""
        return []

    def counted(self, app: ASGIApp) -> ASGIApp:
        """`app`, with its answers counted by the pattern of their route: a path that is asked for is no label."""

        async def counting(scope: Scope, receive: Receive, send: Send) -> None:
            async def sent(message: Message) -> None:
                if message["type"] == "http.response.start":
                    route = getattr(scope.get("route"), "path", "none")
                    self._requests.labels(route, str(message["status"])).inc()
                await send(message)

            await app(scope, receive, sent if scope["type"] == "http" else send)

        return counting


def _words(name: str) -> str:
    return name.replace("_", " ").capitalize() + "."
