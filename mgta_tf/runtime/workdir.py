"""The folder of a run: its paths, and whether a command may use it."""

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

# Flags that do not change what a run computes; a resumed run may change them.
NEUTRAL = frozenset(
    (
        "workdir",
        "keep",
        "minutes",  # the flags that were chosen for it are compared instead
        "checkpoint_every_steps",
        "checkpoint_every_secs",
        "max_skipped_steps",
        "log_every_steps",
        "cache_budget_mb",
        "check_file",
        "probe_every_rounds",
        "profile_steps",
        "eval_only",
        "image",
        "min_score",
        "cache_body_features",
        "cache_budget_gb",
        "voc_root",  # the digest of the data is compared instead
        "coco_root",
    )
)


# Flags for finding the images. The content of the images is compared instead.
KNOWN_BY_CONTENT = frozenset(("data_dir", "follow_links", "max_bad_fraction"))


class Workdir:
    """Paths in the folder of a run.

    own: On a host that is not the chief, a folder to write into. All paths are in it except
    `flagfile`, `checkpoints`, `checked` and the labels.
    """

    def __init__(self, path: str, own: str = ""):
        self.path = path
        self.flagfile = os.path.join(path, "flags.flagfile")
        self.checkpoints = os.path.join(path, "checkpoints")
        self.checked = os.path.join(path, "checked_images.npz")
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
        """File of the labels made by net `net` (from 0) in a round."""
        return os.path.join(self.path, "labels", f"round_{round_number:02d}_net{net + 1}.npz")

    def k_curve(self, round_number: int, net: int) -> str:
        """Picture of the choice of K by net `net` in a round."""
        return os.path.join(self.path, "labels", f"k_round_{round_number:02d}_net{net + 1}.png")

    def reconstruction(self, round_number: int, net: int) -> str:
        """Picture of the reconstructions by net `net` after a round."""
        return self._picture(round_number, net, "reconstruction")

    def gallery(self, round_number: int, net: int) -> str:
        """Picture of representative clusters of net `net` in a round."""
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
        """Writes `index` and `label` int32 [n], and `distance` float32 [n] to the own centroid."""
        with files.replacing(self.labels(round_number, net)) as file:
            np.savez_compressed(
                file,
                index=index.astype(np.int32),
                label=label.astype(np.int32),
                distance=distance.astype(np.float32),
            )


def open_workdir(path: str, config: Any) -> Workdir:
    """Creates the folder of a new run, or opens that of a run to resume.

    A run without a checkpoint may be started again with other flags.

    Raises:
      UserError: no path is given; the folder belongs to a run with other flags, or to something
        else; or another process is writing into it.
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
    elif os.path.isdir(path) and _foreign_files(path) and not os.path.exists(workdir.flagfile):
        raise UserError(f"--workdir={path} is not empty and is not a run; choose another folder")
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


def _foreign_files(path: str) -> set[str]:
    """Files in a folder other than those that a run has before it writes its flagfile."""
    return set(os.listdir(path)) - {"lock", "flags.flagfile.partial"}


def load_config(flagfile: str, config_class: type) -> Any:
    """Reads a config from a flagfile.

    Raises:
      UserError: the file does not exist, or has flags that the command does not.
    """
    if not os.path.isfile(flagfile):
        raise UserError(f"{flagfile}: no such file; --workdir must be the folder of a run")
    values = absl_flags.FlagValues()
    config_lib.define(config_class, values)
    try:
        values(flagfiles.expand(["flagfile", f"--flagfile={flagfile}"]))
    except absl_flags.Error as error:
        raise UserError(f"{flagfile}: {' '.join(str(error).split())}") from None
    return config_lib.from_flags(config_class, values)
