"""What Prometheus is told: counts and times, nothing of any user."""

from __future__ import annotations

import threading

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

_SECONDS = (0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)


class Metrics:
    """The counters of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter(
            "forgery_requests", "Requests", ("method", "path", "status"), registry=self.registry
        )
        self._request_s = Histogram(
            *("forgery_request_seconds", "Time of a request", ("path",)),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._jobs = Counter("forgery_jobs", "Jobs by their end", ("end",), registry=self.registry)
        self._job_s = Histogram(
            "forgery_job_seconds", "Time of a job", buckets=_SECONDS, registry=self.registry
        )
        self._batch = Histogram(
            *("forgery_batch_clips", "Clips of a batch"),
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=self.registry,
        )
        self.received = Counter(
            "forgery_received_bytes", "Bytes of uploads", registry=self.registry
        )
        self.queued = Gauge("forgery_jobs_queued", "Jobs that wait", registry=self.registry)
        self.running = Gauge("forgery_jobs_running", "Jobs worked on here", registry=self.registry)
        self.loaded = Gauge("forgery_model_loaded", "1 once it is", registry=self.registry)
        self._mean_s = 5.0
        self._lock = threading.Lock()

    def request_ended(self, method: str, path: str, status: int, seconds: float) -> None:
        """Count a request; `path` is the route's pattern, never what was asked for."""
        self._requests.labels(method, path, status).inc()
        self._request_s.labels(path).observe(seconds)

    def job_ended(self, end: str, seconds: float) -> None:
        """Count a job by the way it ended."""
        self._jobs.labels(end).inc()
        self._job_s.observe(seconds)
        with self._lock:
            self._mean_s += 0.2 * (seconds - self._mean_s)

    def batch_scored(self, clips: int) -> None:
        """Count a batch."""
        self._batch.observe(clips)

    def retry_after_s(self, queued: int, workers: int) -> int:
        """Guess when a place in the queue is free, from the jobs before; 1 to 300 seconds."""
        with self._lock:
            return round(min(300.0, max(1.0, self._mean_s * (queued + 1) / workers / 2)))

    def text(self) -> bytes:
        """Give all numbers in Prometheus' text format."""
        return generate_latest(self.registry)
