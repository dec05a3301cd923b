"""``GET /metrics``: what the daemon counted, in Prometheus's text form.

Rules: the operator's alone, by either door. The counters are plain integers until somebody asks; nothing is labelled by
an id, a tenant or a URL, and every label's values are a fixed list.
Must not know: who counts.
"""

from collections import Counter
from collections.abc import Iterable

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from ringback.api.deps import Deps, deps_of
from ringback.api.reading import query
from ringback.core.histogram import Histogram
from ringback.core.model import EndpointStatus
from ringback.kit.log import lines_dropped
from ringback.service.backlog import Backlog
from ringback.service.metrics import Tally

PREFIX = "ringback_"


async def metrics(request: web.Request) -> web.Response:
    """Everything, once."""
    query(request, {})
    deps = deps_of(request)
    backlog = await deps.backlog.get() if deps.backlog else Backlog()
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Folded(deps, backlog))
    return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


class _Folded(Collector):
    """The counters as families, made for one answer."""

    def __init__(self, deps: Deps, backlog: Backlog) -> None:
        self._deps = deps
        self._backlog = backlog

    def collect(self) -> Iterable[Metric]:
        """All families, in the order people read them."""
        yield from self._events()
        yield from self._deliveries()
        yield from self._store()
        yield _counter("log_dropped", "Log lines lost because their reader was too slow", lines_dropped())

    def _events(self) -> Iterable[Metric]:
        kept = self._deps.metrics
        yield _counter("events_accepted", "Events committed, duplicates left out", kept.events_accepted)
        yield _tally("events_rejected", "Events refused, by code", "code", kept.events_rejected)
        by_status = Counter(endpoint.status for endpoint in self._deps.endpoints)
        statuses = GaugeMetricFamily(PREFIX + "endpoints", "Endpoints by status", labels=["status"])
        for status in EndpointStatus:
            statuses.add_metric([status.value], by_status[status])
        yield statuses
        yield _gauge("endpoints_failing", "Active receivers whose latest attempts failed", self._deps.failing())

    def _deliveries(self) -> Iterable[Metric]:
        kept, backlog = self._deps.metrics, self._backlog
        yield _tally("deliveries", "Deliveries that ended, by how", "outcome", kept.deliveries)
        yield _tally("attempts", "Attempts recorded, by outcome", "outcome", kept.attempts)
        yield _histogram("attempt_seconds", "Time one attempt took", kept.attempt_s)
        wait = "Time from acceptance to the first attempt, without deliveries that asked for a later one"
        yield _histogram("accept_to_attempt_seconds", wait, kept.accept_to_attempt_s)
        yield _gauge("in_flight", "Attempts under way or awaiting their commit", len(self._deps.dispatch.in_flight()))
        yield _gauge("pending", "Deliveries owed, held ones too; looked at every few seconds", backlog.pending)
        now_ms = self._deps.clock.now_ms()
        age_s = 0.0 if backlog.oldest_at_ms is None else max(0, now_ms - backlog.oldest_at_ms) / 1000
        yield _gauge("oldest_pending_seconds", "Since the oldest event still owed to anybody was accepted", age_s)

    def _store(self) -> Iterable[Metric]:
        kept, disk = self._deps.metrics, self._deps.disk()
        yield _histogram("commit_seconds", "Time one transaction took, its fsync too", kept.commit_s)
        yield _histogram("commit_rows", "Rows of one transaction, as its batch weighs them", kept.commit_rows)
        yield _gauge("database_bytes", "The database's files, its log too", disk.database_bytes + disk.log_bytes)
        yield _gauge("database_budget_bytes", "What the database may use; 0: no budget", disk.budget_bytes)
        if disk.used_bytes is not None:
            yield _gauge("database_used_bytes", "What counts against its budget", disk.used_bytes)


def _counter(name: str, words: str, value: float) -> Metric:
    return CounterMetricFamily(PREFIX + name, words, value)


def _gauge(name: str, words: str, value: float) -> Metric:
    return GaugeMetricFamily(PREFIX + name, words, value)


def _tally(name: str, words: str, label: str, tally: Tally) -> Metric:
    family = CounterMetricFamily(PREFIX + name, words, labels=[label])
    for value, count in tally.counts.items():
        family.add_metric([value], count)
    return family


def _histogram(name: str, words: str, histogram: Histogram) -> Metric:
    return HistogramMetricFamily(PREFIX + name, words, histogram.cumulative(), histogram.total)
