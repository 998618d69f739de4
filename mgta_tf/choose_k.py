"""Chooses the number of clusters K for given features, as `--num_clusters=auto` does in a run.

python -m mgta_tf.choose_k --features=F.npy --candidates=50:500:10 --output=k.json --plot=k.png
python -m mgta_tf.choose_k --saved_model=DIR --data_dir=PHOTOS --output=k.json
"""

from __future__ import annotations

import dataclasses

import numpy as np

from mgta_tf import cli
from mgta_tf.clustering import curve
from mgta_tf.clustering.choose import CRITERIA, choose_k, parse_candidates
from mgta_tf.clustering.config import ClusterConfig
from mgta_tf.clustering.diagnostics import describe_clusters
from mgta_tf.clustering.features import collect, prepare
from mgta_tf.clustering.lloyd import kmeans
from mgta_tf.config import flag, group
from mgta_tf.data.sources import DataConfig, open_source
from mgta_tf.data.store import load_store
from mgta_tf.errors import UserError
from mgta_tf.evaluation.features import in_batches, load_encode
from mgta_tf.models.artifact import read_facts
from mgta_tf.runtime.files import write_json


@dataclasses.dataclass(frozen=True)
class ChooseConfig:
    """Choice of K. Of the clustering flags below, only those about the features have an effect."""

    features: str = flag("", "NumPy file of features, float [N, D].")
    saved_model: str = flag("", "SavedModel that encodes the images of --data_dir instead.")
    candidates: str = flag(
        "50:500:10", "Candidates for K: first:last:count, or a comma-separated list."
    )
    criterion: str = flag(
        "ch",
        "Criterion that chooses K: Calinski-Harabasz (eq. 2), silhouette, gap statistic or "
        "stability.",
        choices=tuple(CRITERIA),
    )
    output: str = flag(
        "",
        "JSON file to write: best_k, on_edge, the table of candidates and a summary of the "
        "clusters.",
    )
    plot: str = flag("", "PNG file for the curves; empty writes none.")
    seed: int = flag(0, "Random seed for the k-means starts and the samples.", minimum=0)
    data: DataConfig = group(DataConfig)
    cluster: ClusterConfig = group(ClusterConfig)


def main(config: ChooseConfig) -> None:
    if not config.output:
        raise UserError("--output is required: a JSON file to write")
    if bool(config.features) == bool(config.saved_model):
        raise UserError("give --features, or --saved_model with --data_dir")
    candidates = parse_candidates(config.candidates, "candidates")
    features, truth = (load(config.features), None) if config.features else encode(config)
    prepared = prepare(features, config.cluster)
    choice = choose_k(prepared, candidates, config.criterion, config.seed)
    for row in choice.table:
        print("  ".join(f"{key} {value:.6g}" for key, value in row.items()))
    print(f"K = {choice.best_k} of {len(features)} points by {choice.criterion}")
    if choice.on_edge:
        print(choice.warning())
    found = kmeans(prepared, choice.best_k, config.seed, start=choice.start)
    statistics = describe_clusters(found, truth)
    shown = (f"{name} {value:.4g}" for name, value in statistics.items() if value is not None)
    print("clusters: " + ", ".join(shown))
    if config.plot:
        curve.draw(choice, config.plot)
    write_json(
        config.output,
        {
            "best_k": choice.best_k,
            "on_edge": choice.on_edge,
            "criterion": choice.criterion,
            "num_points": len(features),
            "table": choice.table,
            "clusters": statistics,
        },
    )


def load(path: str) -> np.ndarray:
    """Features of a .npy file, memory-mapped if they are float32.

    Raises:
      UserError: the file is not .npy, or is not float [N, D].
    """
    try:
        features = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UserError(f"--features={path}: {error}") from None
    if features.ndim != 2 or not np.issubdtype(features.dtype, np.floating) or not features.size:
        raise UserError(
            f"--features={path}: must be float [N, D], is {features.dtype} {list(features.shape)}"
        )
    return features if features.dtype == np.float32 else features.astype(np.float32)


def encode(config: ChooseConfig) -> tuple[np.ndarray, np.ndarray | None]:
    """The endpoint `--cluster_features` of the images, averaged over pixels, [N, D]; and classes.

    The classes are None where the images have none.
    """
    import tensorflow as tf  # after mgta_tf, which sets TensorFlow's environment variables

    endpoint = config.cluster.cluster_features
    encoder = load_encode(config.saved_model, endpoint)
    data = config.data
    store = load_store(
        open_source(data),
        size=read_facts(config.saved_model).image_size,
        policy=data.resize_policy,
        cache_budget_mb=data.cache_budget_mb,
        max_bad_fraction=data.max_bad_fraction,
        max_pixels=data.max_image_pixels,
        check_file=data.check_file,
    )
    flat = (
        encoder(images=tf.constant(store.batch(part)))[endpoint].numpy()
        for part in in_batches(len(store), 64)
    )
    flat = (x.reshape(len(x), -1, x.shape[-1]).mean(1) for x in flat)
    path = f"{config.output}.features.npy"
    found = collect(flat, len(store), config.cluster.feature_budget_mb, path)
    return found, store.labels


if __name__ == "__main__":
    cli.run(main, ChooseConfig)
