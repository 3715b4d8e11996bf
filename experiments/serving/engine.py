"""The model, its batchers, the jobs and their workers: what lives as long as the server does."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from experiments.errors import UsageError
from experiments.serving.batching import Batcher
from experiments.serving.confined import warm_up
from experiments.serving.jobs import JobStore
from experiments.serving.keys import KeyFile
from experiments.serving.logs import log
from experiments.serving.metrics import Metrics
from experiments.serving.workers import Workers

if TYPE_CHECKING:
    from experiments.predicting.scorer import ClipScorer
    from experiments.serving.child import Task
    from experiments.serving.settings import Settings


class Engine:
    """What answers requests once it is loaded.

    Attributes:
        on_failure: Called with the error if loading fails.

    Args:
        settings: Of the server.
        load: Loads the networks; it is called once, in a thread of its own.
        task: What a child does with a video.
        options: For the task.
    """

    def __init__(
        self,
        settings: Settings,
        load: Callable[[], Sequence[ClipScorer]],
        task: Task,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.settings = settings
        self.metrics = Metrics()
        self.keys = KeyFile(settings.state_dir / "keys.json")
        self.store = JobStore(
            settings.state_dir / "jobs.sqlite",
            settings.queue,
            settings.ttl_s,
            settings.jobs_of_client,
        )
        self._load = load
        self._task = task
        self.options = dict(options or {})
        self.on_failure: Callable[[Exception], None] = lambda _: None
        self._workers: Workers | None = None
        self._batchers: list[Batcher] = []
        self.metrics.queued.set_function(lambda: self.store.count("queued"))
        self.metrics.running.set_function(lambda: self._workers.active if self._workers else 0)
        self.metrics.loaded.set_function(lambda: float(self.loaded))

    @property
    def loaded(self) -> bool:
        """Whether the model is there."""
        return self._workers is not None

    @property
    def healthy(self) -> bool:
        """Whether new jobs are taken."""
        return self._workers is not None and not self._workers.draining

    @property
    def workers(self) -> Workers:
        """What works on jobs.

        Raises:
            RuntimeError: The model is not loaded.
        """
        if self._workers is None:
            raise RuntimeError("the model is not loaded")
        return self._workers

    @property
    def models(self) -> list[str]:
        """Names of the networks, none before they are loaded."""
        return [network.spec.name for network in self._batchers]

    @property
    def explains(self) -> bool:
        """Whether any of the networks can explain; True before they are loaded."""
        return any(network.explains for network in self._batchers) or not self._batchers

    @property
    def draining(self) -> bool:
        """Whether the server is about to go."""
        return self._workers is not None and self._workers.draining

    def drain(self) -> None:
        """Take no new jobs, and begin none."""
        self.workers.drain()

    def has_disk(self) -> bool:
        """Tell whether there is room for another video."""
        free = shutil.disk_usage(self.settings.state_dir).free
        return free >= self.settings.min_free_mb * 2**20

    def start(self) -> None:
        """Load the model in the background."""
        threading.Thread(target=self._start, daemon=True, name="load").start()

    def _start(self) -> None:
        try:
            warm_up()
            wait_s = self.settings.batch_wait_ms / 1e3
            observe = self.metrics.batch_scored
            networks = [Batcher(s, wait_s, observe=observe) for s in self._load()]
            no_maps = [n.no_maps for n in networks if n.no_maps]  # looked for before a job asks
            workers = Workers(self.settings, self.store, networks, self._task, self.metrics)
            self._check(workers.probe())
            workers.start()
        except Exception as error:  # told to whoever runs the server
            self.on_failure(error)
            return
        self._batchers, self._workers = networks, workers
        models = [n.spec.method for n in networks]
        log("ready", models=models, confined_by=workers.layers, no_maps=no_maps)

    def _check(self, layers: Sequence[str]) -> None:
        """Refuse to serve without walls, unless that is wanted."""
        if "no_network" not in layers and not self.settings.unconfined:
            raise UsageError(
                "this system cannot keep the decoder off the network (it lacks libseccomp or a "
                "kernel with filters): install libseccomp2, or say --unconfined"
            )

    def stop(self, patience_s: float) -> None:
        """End everything, running jobs after a while."""
        if self._workers is not None:
            self._workers.stop(patience_s)
        for batcher in self._batchers:
            batcher.close()
