"""Batches of clips across jobs: what several children ask for at once is scored at once."""

from __future__ import annotations

import queue
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from experiments.predicting.scorer import ClipScorer, ClipScores

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from experiments.predicting.scorer import ClipSpec, ExplainingScorer


@dataclass
class _Request:
    clips: NDArray[np.uint8]
    answer: Future[Any] = field(default_factory=Future)
    explain: bool = False


class Batcher:
    """One network, and the thread that feeds it.

    A request waits for others while somebody else is connected who has not asked yet, at most
    `max_wait_s`, and until the batch is full.

    Args:
        scorer: The network.
        max_wait_s: How long a request waits for company.
        max_requests: Requests that wait at most; who comes later waits to be let in.
        observe: Called with the number of clips of every batch.
    """

    def __init__(
        self,
        scorer: ClipScorer,
        max_wait_s: float = 0.01,
        max_requests: int = 64,
        observe: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._scorer = scorer
        self._max_wait_s = max_wait_s
        self._observe = observe
        self._waiting: queue.Queue[_Request | None] = queue.Queue(max_requests)
        self._clients = 0
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, daemon=True, name="batcher")
        self._thread.start()

    @property
    def spec(self) -> ClipSpec:
        """Of the network."""
        return self._scorer.spec

    @cached_property
    def no_maps(self) -> str:
        """Why the network can explain nothing; empty where it can. Not cheap when first asked."""
        if not hasattr(self._scorer, "explain_clips"):
            return f"{self.spec.name} cannot be explained"
        return cast("ExplainingScorer", self._scorer).no_maps

    @property
    def explains(self) -> bool:
        """Whether the network can explain."""
        return not self.no_maps

    def __enter__(self) -> Batcher:
        """Count one more who may ask."""
        with self._lock:
            self._clients += 1
        return self

    def __exit__(self, *_: object) -> None:
        """Count one less."""
        with self._lock:
            self._clients -= 1

    def score_clips(self, clips: NDArray[np.uint8]) -> ClipScores:
        """Score clips, shape (B, T, H, W, 3), uint8, together with those of others.

        Raises:
            Exception: What the network raised.
        """
        return cast(ClipScores, self._ask(_Request(clips)))

    def explain_clips(self, clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Map clips, shape (B, T, H, W, 3), uint8; the maps have the shape (B, T, h, w), float32.

        Raises:
            Exception: What the network raised.
        """
        return cast("NDArray[np.float32]", self._ask(_Request(clips, explain=True)))

    def close(self) -> None:
        """End the thread, after what waits."""
        self._waiting.put(None)
        self._thread.join()

    def _ask(self, request: _Request) -> Any:
        self._waiting.put(request)
        return request.answer.result()

    def _run(self) -> None:
        left_over: _Request | None = None
        while (first := left_over or self._waiting.get()) is not None:
            batch, left_over, ends = self._gather(first)
            try:
                self._score(batch)
            except Exception as error:  # those who asked get it, and the next batch is another
                for request in batch:
                    request.answer.set_exception(error)
            if ends:
                return

    def _gather(self, first: _Request) -> tuple[list[_Request], _Request | None, bool]:
        """Wait for company; what does not fit any more opens the next batch."""
        batch, count = [first], len(first.clips)
        until = time.monotonic() + self._max_wait_s
        while not first.explain and count < self.spec.batch:
            # everyone who could ask has asked: nothing to wait for
            wait_s = until - time.monotonic() if len(batch) < self._clients else 0.0
            try:
                following = self._waiting.get(wait_s > 0, wait_s if wait_s > 0 else None)
            except queue.Empty:
                break
            if following is None:
                return batch, None, True
            if following.explain or count + len(following.clips) > self.spec.batch:
                return batch, following, False
            batch.append(following)
            count += len(following.clips)
        return batch, None, False

    def _score(self, batch: list[_Request]) -> None:
        if batch[0].explain:
            explainer = cast("ExplainingScorer", self._scorer)
            batch[0].answer.set_result(explainer.explain_clips(batch[0].clips))
            return
        clips = np.concatenate([request.clips for request in batch])
        self._observe(len(clips))
        clip, frame = self._scorer.score_clips(clips)
        start = 0
        for request in batch:
            end = start + len(request.clips)
            request.answer.set_result(
                ClipScores(clip[start:end], None if frame is None else frame[start:end])
            )
            start = end
