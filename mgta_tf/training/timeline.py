"""The turns of a run in numbers: images, steps, learning rates."""

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
    """Every turn of a run by its number, from 0.

    turns: the turns in order. images: how many images each is about. steps: how many training steps
    each takes, 0 for a GLP. before: the steps that the turn's net has taken before it; N2 counts
    those of stage 1, whose weights it copies.
    """

    turns: tuple[Turn, ...]
    images: tuple[int, ...]
    steps: tuple[int, ...]
    before: tuple[int, ...]
    optimizer: OptimizerConfig

    @classmethod
    def of(cls, config: TrainConfig, num_images: int) -> Timeline:
        """The timeline of a run on `num_images` images."""
        turns = tuple(guidance.turns(config.guidance))
        images = tuple(guidance.count_images(turn, num_images) for turn in turns)
        steps, before, taken = [], [], [0, 0]
        for turn, count in zip(turns, images):
            training = turn.process == "TMP"
            own = sampler.steps_of(count, turn.epochs, config.batch.size) if training else 0
            steps.append(own)
            before.append(taken[turn.net])
            taken[turn.net] += own
            if turn.stage == "iae":
                taken[1] = taken[0]
        return cls(turns, images, tuple(steps), tuple(before), config.optimizer)

    def global_step(self, number: int, step: int = 0) -> int:
        """The step of a net's curves at step `step` of turn `number`."""
        return self.before[number] + step

    def end(self, number: int) -> int:
        """The global step at which a turn ends."""
        return self.global_step(number, self.steps[number])

    def rate(self, number: int) -> Callable[[int], float]:
        """The learning rate by step of a turn: one schedule for the IAE, one for what follows."""
        turn = self.turns[number]
        phase = [
            i
            for i, other in enumerate(self.turns)
            if other.net == turn.net and (other.stage == "iae") == (turn.stage == "iae")
        ]
        before = sum(self.steps[i] for i in phase if i < number)
        total = sum(self.steps[i] for i in phase)
        return lambda step: learning_rate(self.optimizer, before + step, total)
