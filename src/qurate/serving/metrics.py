"""What /metrics shows: standard names, base units, one registry per service."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Metrics:
    """Counters of one service."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter("qurate_http_requests", "Answers by route and status", ["route", "status"], registry=registry)
        self.seconds = Histogram("qurate_http_request_seconds", "From head to answer", ["route"], buckets=SECONDS, registry=registry)
        self.events = Counter("qurate_events", "Events by outcome: accepted, duplicate, rejected", ["outcome"], registry=registry)
        self.decisions = Counter(
            "qurate_decisions", "Decisions by reason of degradation, none where there is none", ["degraded"], registry=registry
        )
        self.decide_seconds = Histogram("qurate_decide_seconds", "Time in the model, for one batch", buckets=SECONDS, registry=registry)
        self.decided_together = Histogram(
            "qurate_decided_together", "Requests in one batch", buckets=(1, 2, 4, 8, 16, 32, 64), registry=registry
        )
        self.model_errors = Counter("qurate_model_errors", "Decisions for which the model failed", registry=registry)
        self.commit_seconds = Histogram("qurate_store_commit_seconds", "One group commit", buckets=SECONDS, registry=registry)
        self.store_writable = Gauge("qurate_store_writable", "1 while the last write succeeded", registry=registry)
        self._degraded: dict[str, Counter] = {}

    def count_decision(self, degraded: str | None) -> None:
        """One answer more."""
        reason = degraded or "none"
        counter = self._degraded.get(reason)
        if counter is None:  # finding a labelled counter costs more than counting
            counter = self._degraded[reason] = self.decisions.labels(reason)
        counter.inc()

    def count_events(self, accepted: int, duplicates: int, rejected: int) -> None:
        """What became of one batch."""
        for outcome, count in (("accepted", accepted), ("duplicate", duplicates), ("rejected", rejected)):
            self.events.labels(outcome).inc(count)

    def text(self) -> bytes:
        """The page of /metrics."""
        return generate_latest(self.registry)
