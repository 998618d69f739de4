"""k-means between two of its steps, on disk: a kill costs the steps since the last save only."""

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
    """Keeps the `State` of a k-means at `path`, every `every_secs` and when the process must leave.

    It belongs to certain points, K and start; with others, what lies there is not used. The
    features of a net are the same to the bit when they are encoded again (see `--deterministic`).
    """

    def __init__(self, path: str, every_secs: float):
        self._path, self._every_secs = path, every_secs

    @contextlib.contextmanager
    def opened(
        self, points: np.ndarray, k: int, seed: int, start: Start | None
    ) -> Iterator[State | None]:
        """Yields the saved state, if there is one, and deletes it when the block ends."""
        self._about, self._key = (points, k, seed, start), ""
        self._saved = time.monotonic()
        state = self._load() if os.path.exists(self._path) else None
        with preemption.deferred():
            yield state
        if os.path.exists(self._path):
            os.remove(self._path)

    def step(self, state: State) -> None:
        """Called after every step."""
        due = time.monotonic() - self._saved > self._every_secs
        if due or preemption.received_signal():
            self._save(state)
            self._saved = time.monotonic()
            preemption.stop_if_signalled()

    def _identity(self) -> str:
        """SHA-256 of everything that decides the steps."""
        points, k, seed, start = self._about
        if not self._key:
            checksum = hashlib.sha256(f"{points.shape} {k} {seed}".encode())
            checksum.update(b"" if start is None else start.picked.tobytes())
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
                picked=state.start.picked,
                scatter=state.start.scatter,
                centroids=state.centroids,
                labels=state.labels,
                counts=[state.reseeded, state.steps],
            )

    def _load(self) -> State | None:
        """None where the file is damaged, or about something else."""
        try:
            saved = files.arrays(self._path)
            if str(saved["key"]) != self._identity():
                return None
            start = Start(saved["mean"], saved["picked"], float(saved["scatter"]))
            reseeded, steps = (int(count) for count in saved["counts"])
            return State(start, saved["centroids"], saved["labels"], reseeded, steps)
        except (ValueError, KeyError, TypeError):
            return None
