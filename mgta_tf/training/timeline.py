"""Images, training steps and work of every turn of a run; the learning rate of every step."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from mgta_tf.clustering import members
from mgta_tf.clustering.choose import parse_candidates
from mgta_tf.clustering.config import ClusterConfig
from mgta_tf.data import sampler
from mgta_tf.runtime.eta import Work
from mgta_tf.training import defaults, guidance, needs
from mgta_tf.training.config import TrainConfig
from mgta_tf.training.guidance import Turn
from mgta_tf.training.optimization import OptimizerConfig, learning_rate

SAMPLE = 1000  # images on which a GLP compares the labels of the two nets
BACKWARD = 3  # cost of a training step in forward passes; the gradient takes two
LLOYD_STEPS = 30  # of k-means, in the mean
DIMENSIONS = {"res2": 256, "res3": 512, "res4": 1024}  # of ResNet-50; of the others 2048

# Seconds to build the graphs of a kind of work, relative to those of the first net's training step:
# for the first net that needs them, and for the other. Medians of small runs on CPUs.
GRAPHS = {
    "train": (1.0, 0.5),
    "probe": (0.2, 0.05),
    "show": (0.16, 0.08),
    "save": (0.6, 0.0),
    "encode": (0.04, 0.0),
    "compare": (0.05, 0.0),
    "cluster": (0.06, 0.0),
    "close": (0.35, 0.0),  # ends TensorFlow, which takes longer the more graphs there are
}


@dataclasses.dataclass(frozen=True)
class Timeline:
    """The turns of a run in order; turn numbers count from 0.

    images: number of images of each turn. steps: number of training steps of each turn, 0 for a
    GLP. steps_before: number of steps that the turn's net has taken before; N2 starts with those of
    stage 1, because it copies the IAE's weights.
    """

    turns: tuple[Turn, ...]
    images: tuple[int, ...]
    steps: tuple[int, ...]
    steps_before: tuple[int, ...]
    optimizer: OptimizerConfig

    @classmethod
    def of(cls, config: TrainConfig, num_images: int) -> Timeline:
        """The timeline of a run on `num_images` images."""
        turns = tuple(guidance.turns(config.guidance))
        images = tuple(guidance.count_images(turn, num_images) for turn in turns)
        steps, steps_before, taken = [], [], [0, 0]
        for turn, count in zip(turns, images):
            training = turn.process == "TMP"
            own = sampler.steps_of(count, turn.epochs, config.batch.size) if training else 0
            steps.append(own)
            steps_before.append(taken[turn.net])
            taken[turn.net] += own
            if turn.stage == "iae":
                taken[1] = taken[0]
        return cls(turns, images, tuple(steps), tuple(steps_before), config.optimizer)

    def global_step(self, number: int, step: int = 0) -> int:
        """The x-axis of a net's curves: its steps in all turns, at step `step` of turn `number`."""
        return self.steps_before[number] + step

    def end(self, number: int) -> int:
        """The global step at which a turn ends."""
        return self.global_step(number, self.steps[number])

    def learning_rate(self, number: int) -> Callable[[int], float]:
        """The learning rate of a turn as a function of its step.

        A net's schedule runs once over stage 1 and once over stages 2 and 3.
        """
        turn = self.turns[number]
        phase = [
            i
            for i, other in enumerate(self.turns)
            if other.net == turn.net and (other.stage == "iae") == (turn.stage == "iae")
        ]
        before = sum(self.steps[i] for i in phase if i < number)
        total = sum(self.steps[i] for i in phase)
        return lambda step: learning_rate(self.optimizer, before + step, total)


def work_of(
    timeline: Timeline, config: TrainConfig, first: int, labelled: bool
) -> tuple[list[Work], ...]:
    """The pieces of work of each turn, for the ETA.

    Weights are passes of an image through an encoder; a decoder costs the same. Most pictures,
    probe and checkpoints have no weight, because their cost does not follow from the nets.

    Args:
      timeline: Timeline of the run.
      config: Flags of the run.
      first: The turn at which the process starts; graphs are built once per process.
      labelled: Whether the images have classes, which the probe needs.
    """
    if not timeline.turns:  # a run that only makes the untrained net
        return ()
    step, clustering = step_weight(config), cluster_weight(config)
    two = guidance.count_nets(config.guidance) == 2
    found: list[list[Work]] = []
    seen: set[tuple[str, int]] = set()
    if labelled and first == 0:  # the untrained net has been evaluated before the first turn
        untrained = 0 if two else timeline.turns[0].net
        seen.add(("encode", 0))
        if config.run.probe_every_rounds:
            seen.add(("probe", untrained))

    def graphs(number: int, kind: str, net: int = 0) -> float:
        """The weight of building a kind of graphs in turn `number`; 0 if the net has them."""
        if number < first or (kind, net) in seen:
            return 0.0
        again = any(kind == other for other, _ in seen)
        seen.add((kind, net))
        return GRAPHS[kind][again]

    for number, (turn, images, steps) in enumerate(
        zip(timeline.turns, timeline.images, timeline.steps)
    ):
        if turn.process == "GLP":
            again = any(before.process == "GLP" for before in timeline.turns[:number])
            compared = Work("compare", min(SAMPLE, images), 1.0, graphs(number, "compare"))
            units = _clusters_to_compute(config.cluster, again) * images
            pieces = [
                Work("encode", images, weight=1.0, builds=graphs(number, "encode")),
                *([compared] if two else []),
                Work("cluster", units, clustering, graphs(number, "cluster")),
                Work("gallery", 1),
            ]
        else:
            pieces = [Work("train", steps, step, graphs(number, "train", turn.net))]
            if labelled and guidance.is_probed(turn, config.run.probe_every_rounds):
                pieces.append(Work("probe", 1, builds=graphs(number, "probe", turn.net)))
            groups = turn.stage == "final" and config.guidance.labels == "none"
            weight = min(members.KEPT, images) if groups else math.nan  # that are encoded
            pieces.append(Work("show", 1, weight, graphs(number, "show", turn.net)))
        found.append([*pieces, Work("save", 1, builds=graphs(number, "save"))])
    found[-1].append(Work("close", 1, builds=graphs(number, "close")))
    return tuple(found)


def step_weight(config: TrainConfig) -> float:
    """The weight of a training step in `work_of`, in passes of an image through an encoder."""
    return BACKWARD * needs.halves(config.model) * config.batch.size


def cluster_weight(config: TrainConfig) -> float:
    """The weight of k-means for an image and a cluster in `work_of`.

    A Lloyd step takes 2 D operations for each pair.
    """
    dimensions = config.model.channels(DIMENSIONS.get(config.cluster.cluster_features, 2048))
    operations = defaults.operations(config.model, config.augment.image_size) / BACKWARD
    return LLOYD_STEPS * 2 * dimensions / operations


def _clusters_to_compute(config: ClusterConfig, again: bool) -> float:
    """The total number of clusters that a GLP computes: K, or the sum of all candidates for K.

    again: whether `--num_clusters=auto` has chosen before.
    """
    if isinstance(config.num_clusters, int):
        return config.num_clusters
    candidates = parse_candidates(config.k_candidates)
    chosen = float(np.mean(candidates))
    return chosen if again and config.num_clusters == "auto" else sum(candidates) + chosen
