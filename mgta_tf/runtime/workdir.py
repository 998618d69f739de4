"""The folder of a run: what lies where, and whose it is."""

from __future__ import annotations

import os
import tempfile
from typing import Any

import numpy as np
from absl import flags as absl_flags

from mgta_tf import config as config_lib
from mgta_tf import flagfiles
from mgta_tf.errors import UserError
from mgta_tf.runtime import checkpoints, files, hosts
from mgta_tf.runtime.lock import lock

# Flags that change how a run is watched and kept, not what it computes.
NEUTRAL = frozenset(
    (
        "workdir",
        "keep",
        "minutes",  # what was planned for it decides
        "checkpoint_every_steps",
        "checkpoint_every_secs",
        "max_skipped_steps",
        "log_every_steps",
        "cache_budget_mb",
        "probe_every_rounds",
        "profile_steps",
        "eval_only",
        "image",
        "min_score",
        "checkpoint_every_steps",
        "cache_body_features",
        "cache_budget_gb",
        "voc_root",  # the digest of what was found there decides
        "coco_root",
    )
)


# Flags that say where the images are; whether they are the same is seen by what they hold.
KNOWN_BY_CONTENT = frozenset(("data_dir", "follow_links", "max_bad_fraction"))


class Workdir:
    """Paths in a run's folder; on a host that is not the chief, of a folder of its own.

    Only `flagfile`, `checkpoints` and the labels are always those of the run.
    """

    def __init__(self, path: str, own: str = ""):
        self.path = path
        self.flagfile = os.path.join(path, "flags.flagfile")
        self.checkpoints = os.path.join(path, "checkpoints")
        path = self._own = own or path
        self.summary = os.path.join(path, "summary.json")
        self.own_checkpoints = os.path.join(path, "checkpoints")
        self.iae = os.path.join(path, "checkpoints", "iae")
        self.supervised = os.path.join(path, "checkpoints", "supervised")
        self.tensorboard = os.path.join(path, "tensorboard")
        self.skipped = os.path.join(path, "skipped.txt")
        self.clusters = os.path.join(path, "clusters.csv")
        self.features = os.path.join(path, "features")
        self.kmeans = os.path.join(path, "kmeans.npz")
        self.originals = os.path.join(path, "pictures", "originals.jpg")
        self.members = os.path.join(path, "pictures", "members.npz")
        self.baselines = os.path.join(path, "baselines.json")
        self.report = os.path.join(path, "report.html")

    def labels(self, round_number: int, net: int) -> str:
        """Where the labels that net `net` (from 0) made in a round are kept."""
        return os.path.join(self.path, "labels", f"round_{round_number:02d}_net{net + 1}.npz")

    def k_curve(self, round_number: int, net: int) -> str:
        """Where the picture of a choice of K is kept."""
        return os.path.join(self.path, "labels", f"k_round_{round_number:02d}_net{net + 1}.png")

    def reconstruction(self, round_number: int, net: int) -> str:
        """Where the picture of what net `net` reconstructs after a round is kept."""
        return self._picture(round_number, net, "reconstruction")

    def gallery(self, round_number: int, net: int) -> str:
        """Where the picture of representative clusters of net `net` in a round is kept."""
        return self._picture(round_number, net, "clusters")

    def _picture(self, round_number: int, net: int, what: str) -> str:
        name = f"round_{round_number:02d}_net{net + 1}_{what}.jpg"
        return os.path.join(self._own, "pictures", name)

    def save_labels(
        self,
        round_number: int,
        net: int,
        index: np.ndarray,
        label: np.ndarray,
        distance: np.ndarray,
    ) -> None:
        """Writes `index`, `label` int32 [n] and `distance` float32 [n], to the own centroid.

        Whole or not at all.
        """
        with files.replacing(self.labels(round_number, net)) as file:
            np.savez_compressed(
                file,
                index=index.astype(np.int32),
                label=label.astype(np.int32),
                distance=distance.astype(np.float32),
            )


def open_workdir(path: str, config: Any) -> Workdir:
    """Makes the folder of a new run, or opens that of an old one to resume it.

    A run that has saved nothing yet may be started again with other flags.

    Raises:
      UserError: no path; or the folder is another run's, whose flags differ; or a run that is alive
        writes into it.
    """
    before = flags_of(path, type(config))
    if not hosts.is_chief():
        return Workdir(path, own=tempfile.mkdtemp(prefix="mgta_tf-"))
    workdir = Workdir(path)
    if before:
        now = config_lib.to_dict(config)
        different = [
            f"--{name} was {before[name]!r} and is {now[name]!r}"
            for name in now
            if name not in NEUTRAL | KNOWN_BY_CONTENT and not _same(before[name], now[name])
        ]
        if different:
            raise UserError(
                f"{path} belongs to a run with other flags: {'; '.join(different)}. Give the same "
                "flags to resume it, or another --workdir"
            )
    elif os.path.isdir(path) and _others_files(path) and not os.path.exists(workdir.flagfile):
        raise UserError(f"--workdir={path} is not empty and holds no run; choose another folder")
    os.makedirs(path, exist_ok=True)
    lock(os.path.join(os.path.realpath(path), "lock"))
    files.write_text(workdir.flagfile, config_lib.to_flagfile(config))
    return workdir


def flags_of(path: str, config_class: type) -> dict[str, Any]:
    """Every flag of the run in a folder, by name; none where no run has saved anything there.

    Raises:
      UserError: no path, or its flags cannot be read.
    """
    if not path:
        raise UserError("--workdir is required: the run's output folder")
    workdir = Workdir(path)
    if not checkpoints.exist(workdir.checkpoints):
        return {}
    return config_lib.to_dict(load_config(workdir.flagfile, config_class))


def _same(before: Any, now: Any) -> bool:
    """Whether two values of a flag are the same, or paths to the same files."""
    if before and now and isinstance(before, str) and isinstance(now, str):
        before, now = (list(map(os.path.realpath, value.split(","))) for value in (before, now))
    return before == now


def _others_files(path: str) -> set[str]:
    """What lies in a folder besides that which a run writes first, before it may be killed."""
    return set(os.listdir(path)) - {"lock", "flags.flagfile.partial"}


def load_config(flagfile: str, config_class: type) -> Any:
    """The config that a flagfile says.

    Raises:
      UserError: it is not there, or is no flagfile of this command.
    """
    if not os.path.isfile(flagfile):
        raise UserError(f"{flagfile}: no such file; is its folder the --workdir of a run?")
    values = absl_flags.FlagValues()
    config_lib.define(config_class, values)
    try:
        values(flagfiles.expand(["flagfile", f"--flagfile={flagfile}"]))
    except absl_flags.Error as error:
        raise UserError(f"{flagfile}: {' '.join(str(error).split())}") from None
    return config_lib.from_flags(config_class, values)
