"""How well each endpoint of an encoder separates the classes, under two batch-norm statistics.

  python -m tools.study.endpoints --data_dir=tiny-imagenet-100 \\
      --encoders=random=SAVED_MODEL,iae=SAVED_MODEL --results=docs/results/endpoints.json
  python -m tools.study.endpoints --results=docs/results/endpoints.json    only writes the page

The study reads res4 with the moving statistics of training, as users of an encoder do. If an
encoder seems useless, this tells whether another endpoint, or the statistics of the images
themselves, would have shown more. One SVM cost (C = 0.1). Existing rows are not run again.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import numpy as np
import tensorflow as tf

from mgta_tf import cli
from mgta_tf.config import flag
from mgta_tf.data import pipeline
from mgta_tf.evaluation import features
from mgta_tf.models.artifact import load_encoder
from mgta_tf.runtime.files import write_json, write_text
from tools.study import experiment
from tools.study.evaluation import SCREEN_PROBE, Evaluation, figures, open_evaluation
from tools.study.tables import parse_rows

BATCH = 500
STATISTICS = {"moving": "of training", "batch": f"of {BATCH} images"}


@dataclasses.dataclass(frozen=True)
class EndpointsConfig:
    """Endpoints."""

    data_dir: str = flag(
        "",
        "Labelled images with a validation split; empty only writes the page from the rows.",
    )
    encoders: str = flag("", "Encoders, as NAME=SAVED_MODEL,…")
    results: str = flag(
        "docs/results/endpoints.json", "JSON file of the rows; the page is written beside it."
    )


def main(config: EndpointsConfig) -> None:
    rows = experiment.load_rows(config.results)
    if config.data_dir:
        evaluation = open_evaluation(config.data_dir, SCREEN_PROBE)
        images = evaluation.images()
        for name, saved_model in parse_rows(config.encoders, "encoders").items():
            for statistics in STATISTICS:
                key = {"encoder": name, "statistics": statistics}
                if any(row.items() >= key.items() for row in rows):
                    continue
                rows += [{**key, **row} for row in run(evaluation, images, saved_model, statistics)]
                write_json(config.results, rows)
    write_text(os.path.splitext(config.results)[0] + ".md", page(rows))


def run(
    evaluation: Evaluation, images: list[np.ndarray], saved_model: str, statistics: str
) -> list[dict[str, Any]]:
    """A row for each endpoint of an encoder.

    Args:
      images: uint8 [N, S, S, 3], train and test.
      statistics: 'moving', or 'batch': batch norm by the statistics of each batch.
    """
    encoder, facts = load_encoder(saved_model)
    training = statistics == "batch"
    parts = [endpoints_of(encoder, facts.normalization, part, training) for part in images]
    rows = []
    for endpoint in features.ENDPOINTS:
        asked = dataclasses.replace(evaluation.asked, endpoint=endpoint)
        found = dataclasses.replace(evaluation, asked=asked).evaluate([p[endpoint] for p in parts])
        rows.append({"endpoint": endpoint, **figures(found)})
        print(f"{saved_model}, {statistics}, {endpoint}: mAP {found['map']:.2f}", flush=True)
    return rows


def endpoints_of(
    encoder: tf.keras.Model, normalization: str, images: np.ndarray, training: bool
) -> dict[str, np.ndarray]:
    """Every endpoint of uint8 images [N, S, S, 3], in batches of BATCH images at random.

    The order matters only to batch statistics: images of a class lie together in a folder.
    """
    order = np.random.default_rng(0).permutation(len(images))
    found: dict[str, list[np.ndarray]] = {name: [] for name in features.ENDPOINTS}
    for chosen in features.in_batches(len(images), BATCH):
        batch = pipeline.normalize(images[order[chosen]], normalization)
        for name, values in encoder(batch, training=training).items():
            found[name].append(values.numpy())
    back = np.argsort(order)
    return {name: np.concatenate(parts)[back] for name, parts in found.items()}


def page(rows: list[dict[str, Any]]) -> str:
    """docs/results/endpoints.md: SVM mAP by endpoint, of every encoder under both statistics."""
    lines = [
        "# What each endpoint knows",
        "",
        "SVM mAP (C = 0.1) on the study's validation photographs by the endpoint that is read, one "
        "seed. Batch norm uses the moving statistics of training, as everywhere else, or those of "
        f"each batch of {BATCH} photographs.",
        "",
        f"| encoder | batch-norm statistics | {' | '.join(features.ENDPOINTS)} |",
        "|---" * (2 + len(features.ENDPOINTS)) + "|",
    ]
    of = {(row["encoder"], row["statistics"], row["endpoint"]): row["map"] for row in rows}
    for name, statistics in dict.fromkeys((row["encoder"], row["statistics"]) for row in rows):
        cells = [f"{of[name, statistics, endpoint]:.2f}" for endpoint in features.ENDPOINTS]
        lines.append(f"| `{name}` | {STATISTICS[statistics]} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", "Written by `python -m tools.study.endpoints`.", ""])


if __name__ == "__main__":
    cli.run(main, EndpointsConfig)
