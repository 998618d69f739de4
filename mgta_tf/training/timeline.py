"""Images and training steps of every turn of a run, and the learning rate of every step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from mgta_tf.data import sampler
from mgta_tf.training import guidance
from mgta_tf.training.config import TrainConfig
from mgta_tf.training.guidance import Turn
from mgta_tf.training.optimization import OptimizerConfig, learning_rate


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
