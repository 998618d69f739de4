"""Checkpoints of k-means, so that an interrupted k-means resumes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Iterator

import numpy as np

from mgta_tf.clustering.clusters import chunks
from mgta_tf.clustering.lloyd import Start, State
from mgta_tf.runtime import files, preemption


class Journal:
    """Saves the `State` of k-means to `path` every `every_secs` seconds and when a signal arrives.

    A saved state is used only for the same points, K and start. It resumes an interrupted GLP,
    because encoding the images again gives bitwise equal features (see `--deterministic`).
    """

    def __init__(self, path: str, every_secs: float):
        self._path, self._every_secs = path, every_secs

    @contextlib.contextmanager
    def opened(
        self, points: np.ndarray, k: int, seed: int, start: Start | None
    ) -> Iterator[State | None]:
        """Yields the saved state of this k-means, if any; deletes the file when the block ends."""
        self._about, self._key = (points, k, seed, start), ""
        self._saved = time.monotonic()
        state = self._load() if os.path.exists(self._path) else None
        with preemption.deferred():
            yield state
        if os.path.exists(self._path):
            os.remove(self._path)

    def step(self, state: State) -> None:
        """Saves the state after a step, if it is time to."""
        due = time.monotonic() - self._saved > self._every_secs
        if due or preemption.received_signal():
            self._save(state)
            self._saved = time.monotonic()
            preemption.stop_if_signalled()

    def _identity(self) -> str:
        """SHA-256 of all arguments of k-means."""
        points, k, seed, start = self._about
        if not self._key:
            checksum = hashlib.sha256(f"{points.shape} {k} {seed}".encode())
            checksum.update(b"" if start is None else start.indices.tobytes())
            for _, part in chunks(points, np.float32(0)):
                checksum.update(np.ascontiguousarray(part).data)
            self._key = checksum.hexdigest()
        return self._key

    def _save(self, state: State) -> None:
        with files.replacing(self._path) as file:
            np.savez(
                file,
                key=self._identity(),
                mean=state.start.mean,
                picked=state.start.indices,
                scatter=state.start.scatter,
                centroids=state.centroids,
                labels=state.labels,
                counts=[state.reseeded, state.steps],
            )

    def _load(self) -> State | None:
        """The saved state; None if the file is damaged or belongs to another k-means."""
        try:
            saved = files.arrays(self._path)
            if str(saved["key"]) != self._identity():
                return None
            start = Start(saved["mean"], saved["picked"], float(saved["scatter"]))
            reseeded, steps = (int(count) for count in saved["counts"])
            return State(start, saved["centroids"], saved["labels"], reseeded, steps)
        except (ValueError, KeyError, TypeError):
            return None
