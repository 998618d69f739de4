"""The remaining time of a run, from the measured cost of its work: pure functions."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

HALF_LIFE = 60.0  # seconds after which the weight of a measurement is halved
# Cost of pictures or of a checkpoint until it is measured, as a fraction of the cost of a graph.
UNMEASURED = 0.05


@dataclasses.dataclass(frozen=True)
class Work:
    """A piece of a run: `units` of one kind, one after another.

    kind: what is done, such as 'train' or 'encode'. weight: estimated cost of a unit, on one scale
    for all kinds; NaN without an estimate. builds: estimated cost of the graphs that its first unit
    builds, on one scale for all kinds; 0 where it builds none.
    """

    kind: str
    units: float
    weight: float = math.nan
    builds: float = 0.0


@dataclasses.dataclass(frozen=True)
class Cost:
    """The measured cost of a kind of work, in seconds.

    units, seconds: those that built no graphs, the newest with the largest weight. weight:
    `Work.weight` of such a unit. built_units, built_seconds: the newest that also built graphs.
    builds: `Work.builds` of these graphs. whole: whether `built_units` are a whole piece.
    """

    units: float = 0.0
    seconds: float = 0.0
    weight: float = math.nan
    built_units: float = 0.0
    built_seconds: float = 0.0
    builds: float = 0.0
    whole: bool = False


Costs = Mapping[str, Cost]  # by kind


def measured(costs: Costs, work: Work, units: float, seconds: float, first: bool) -> Costs:
    """The costs, with `units` of `work` that took `seconds`.

    first: whether they are the first, which build its graphs.
    """
    cost = dataclasses.replace(costs.get(work.kind, Cost()), weight=work.weight)
    if first and work.builds:
        cost = dataclasses.replace(
            cost,
            built_units=units,
            built_seconds=seconds,
            builds=work.builds,
            whole=units >= work.units,
        )
    else:
        keep = 0.5 ** (seconds / HALF_LIFE)
        cost = dataclasses.replace(
            cost, units=keep * cost.units + units, seconds=keep * cost.seconds + seconds
        )
    return {**costs, work.kind: cost}


def seconds_left(costs: Costs, pending: Sequence[Work]) -> float:
    """Seconds that the work takes; NaN if nothing was measured yet.

    A unit takes the measured time of its kind. Until there is one, its `weight` is multiplied by
    the seconds per weight of all kinds that were measured. Without a weight, a single unit takes
    UNMEASURED of a graph's time, and other pieces do not count. Graphs take `builds`, multiplied by
    the seconds per `builds` of those that were built.
    """
    pieces = [(work, seconds_per_unit(costs, work)) for work in pending]
    known = [(work, pace) for work, pace in pieces if not math.isnan(pace)]
    graphs = seconds_per_graph(costs) * sum(work.builds for work in pending)
    if pieces and not known and not graphs:
        return math.nan
    return graphs + sum(work.units * pace for work, pace in known)


def seconds_per_unit(costs: Costs, work: Work) -> float:
    """Seconds that a unit of the work takes without its graphs; NaN if they cannot be estimated."""
    cost = costs.get(work.kind, Cost())
    if cost.units:
        return cost.seconds / cost.units
    if cost.whole:  # a piece that was timed together with its graphs
        rest = max(0.0, cost.built_seconds - cost.builds * seconds_per_graph(costs))
        seconds = UNMEASURED * cost.built_seconds if work.units == 1 else rest
        return seconds / cost.built_units
    weighted = [c for c in costs.values() if c.units and not math.isnan(c.weight)]
    weight = sum(c.units * c.weight for c in weighted)
    if weight and not math.isnan(work.weight):
        return work.weight * sum(c.seconds for c in weighted) / weight
    return (UNMEASURED * seconds_per_graph(costs) or math.nan) if work.units == 1 else math.nan


def seconds_per_graph(costs: Costs) -> float:
    """Seconds that a graph of weight 1 takes to build, beyond the units in which it is built."""
    seconds = weight = 0.0
    for cost in costs.values():
        pace = cost.seconds / cost.units if cost.units else 0.0
        seconds += max(0.0, cost.built_seconds - pace * cost.built_units)
        weight += cost.builds
    return seconds / weight if weight else 0.0
