"""Builds the config of a run from flags of which some are 'auto', by the rules of `defaults`.

A resumed run keeps the values that it started with.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from itertools import chain
from typing import Any

import numpy as np
import tensorflow as tf

from mgta_tf import config as config_lib
from mgta_tf.data import images, sampler
from mgta_tf.data.images import BadImage
from mgta_tf.data.sources import DataConfig, Source, open_source
from mgta_tf.errors import UserError, quantity
from mgta_tf.models import artifact
from mgta_tf.runtime import hosts
from mgta_tf.runtime.progress import duration
from mgta_tf.runtime.strategy import fast_precision
from mgta_tf.runtime.workdir import Workdir, flags_of
from mgta_tf.training import defaults, preflight, speed
from mgta_tf.training.config import SupervisedConfig, TrainConfig
from mgta_tf.training.defaults import Choice, Facts
from mgta_tf.training.timeline import Timeline, step_weight, work_of

SAMPLED = 50  # images whose size is read
RESERVE = 0.1  # fraction of --minutes for start-up, checkpoints and pictures


def config_of_run(
    flags: dict[str, Any], source: Source | None = None, began: float | None = None
) -> tuple[TrainConfig, Source | None]:
    """The config of mgta_tf.train, and the source of the images if it was opened.

    Args:
      flags: Every leaf of a TrainConfig; some may be 'auto'.
      source: Images to use in place of those given by the flags.
      began: Start time of the command by `time.monotonic`, from which --minutes count; None means
        now.

    Raises:
      UserError: a flag is invalid, or there are no images.
    """
    began = time.monotonic() if began is None else began
    known = _known(flags, TrainConfig)
    if known is not None:
        return config_lib.from_dict(TrainConfig, known), source
    given = config_lib.given(TrainConfig, flags)
    # Errors that do not depend on the images.
    config_lib.from_dict(TrainConfig, {"images_per_cluster": defaults.k_of_views(given), **given})
    if flags["minutes"] and hosts.count() > 1:
        raise UserError("--minutes supports a single host only; set --final_epochs instead")
    source = source or _opened(given, flags["workdir"])
    facts = _facts(given, source)
    seconds = flags["minutes"] * 60 * (1 - RESERVE)
    choices = defaults.of_run(given, facts, seconds)
    if seconds and any(choice.reason for choice in defaults.of_schedule(given, 1, "planned")):
        choices += _plan(
            defaults.leaves_with(given, choices), source, seconds - (time.monotonic() - began)
        )
    _print(choices, facts)
    return config_lib.from_dict(TrainConfig, defaults.leaves_with(given, choices)), source


def config_of_supervised(flags: dict[str, Any]) -> tuple[SupervisedConfig, Source | None]:
    """`config_of_run` for mgta_tf.supervised."""
    known = _known(flags, SupervisedConfig)
    if known is not None:
        return config_lib.from_dict(SupervisedConfig, known), None
    given = config_lib.given(SupervisedConfig, flags)
    source = _opened(given, flags["workdir"])
    labels = np.array([], np.int32) if source.labels is None else source.labels
    sizes = np.unique(labels[labels >= 0], return_counts=True)[1]
    labelled = int(preflight.images_used(sizes, flags["label_fraction"]).sum())
    encoder = None
    if flags["init"]:
        of_init = artifact.read_facts(flags["init"])
        encoder = (of_init.model, of_init.image_size)
    facts = _facts(given, source)
    choices = defaults.of_supervised(given, facts, labelled, encoder)
    _print(choices, facts)
    return config_lib.from_dict(SupervisedConfig, defaults.leaves_with(given, choices)), source


def _known(flags: dict[str, Any], config_class: type) -> dict[str, Any] | None:
    """The flags with the values that the run started with; None if there is no run yet."""
    given = config_lib.given(config_class, flags)
    before = flags_of(flags["workdir"], config_class)
    if before or len(given) == len(flags):
        return {**before, **given}
    return None


def _opened(given: dict[str, Any], workdir: str) -> Source:
    data = config_lib.from_dict(DataConfig, given)
    return open_source(data, remembered=Workdir(workdir).checked)


def _facts(given: dict[str, Any], source: Source) -> Facts:
    gpus = len(tf.config.list_physical_devices("GPU"))
    return Facts(
        len(source.names),
        min(_side(source, given["max_image_pixels"]), given["load_size"] or 2**20),
        _cores(),
        gpus * hosts.count(),
        max(1, gpus) * hosts.count(),
        fast_precision(),
    )


def _side(source: Source, max_pixels: int) -> int:
    """The median of the shorter sides of evenly sampled images."""
    total, sides = len(source.names), []
    for number in sampler.evenly(total, SAMPLED):
        with contextlib.suppress(BadImage, OSError):
            sides.append(images.shorter_side(source.read(int(number)), max_pixels))
    return round(float(np.median(sides))) if sides else 0


def _cores() -> int:
    """Cores that this process may use."""
    linux = hasattr(os, "sched_getaffinity")
    usable = len(os.sched_getaffinity(0)) if linux else os.cpu_count() or 1
    threads = os.environ.get("TF_NUM_INTRAOP_THREADS", "")
    return min(usable, int(threads)) if threads.isdigit() and int(threads) else usable


def _plan(given: dict[str, Any], source: Source, seconds: float) -> list[Choice]:
    """The epochs that fit `seconds`, by the measured speed."""
    began = time.monotonic()
    config = config_lib.from_dict(TrainConfig, given)
    print("--minutes: measuring the speed", flush=True)
    measured = speed.measure(config, source)
    count, size = len(source.names), config.data.load_size or config.augment.image_size
    if count * size**2 * 3 > config.data.cache_budget_mb * 2**20:  # decoded in every epoch
        step = measured.step + config.batch.size * measured.image
        measured = dataclasses.replace(measured, step=step)
    left = seconds - (time.monotonic() - began)

    def planned(epochs: int, reason: str = "") -> tuple[list[Choice], float]:
        choices = defaults.of_schedule(given, epochs, reason)
        run = config_lib.from_dict(TrainConfig, defaults.leaves_with(given, choices))
        work = work_of(Timeline.of(run, count), run, 0, source.labels is not None)
        of_step = step_weight(run)
        return choices, count * measured.image + measured.seconds_of(chain(*work), of_step)

    epochs = defaults.epochs_within(lambda epochs: planned(epochs)[1], left)
    _, needed = planned(epochs)
    reason = f"{1 / measured.step:.3g} steps per second: about {duration(needed)} in all"
    if needed > left:
        reason += ", more than --minutes allows"
    return planned(epochs, reason)[0]


def _print(choices: list[Choice], facts: Facts) -> None:
    lines = [str(choice) for choice in choices if choice.values and choice.reason]
    if lines:
        print(
            f"chosen for {quantity(facts.images, 'image')}, {facts.side} px on the shorter side "
            f"(median), and {facts.machine}; explicit flags take precedence:",
            *lines,
            sep="\n",
            flush=True,
        )
