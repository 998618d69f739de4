"""Evaluates a frozen encoder by linear SVMs: the protocol of the paper's Table 2.

  python -m mgta_tf.probe --saved_model=DIR --voc_root=VOCdevkit --output=probe.json
  python -m mgta_tf.probe --saved_model=DIR --dataset=folder --data_dir=tiny-imagenet-100 \\
      --output=probe.json
"""

from __future__ import annotations

import dataclasses
import os
import time

import numpy as np

from mgta_tf import cli
from mgta_tf.config import flag
from mgta_tf.errors import UserError, printable
from mgta_tf.evaluation import baselines, features, svm
from mgta_tf.evaluation.ap import METHODS
from mgta_tf.evaluation.knn import knn_accuracy
from mgta_tf.evaluation.labelled import Labelled, folder_sets, voc_sets
from mgta_tf.models import artifact
from mgta_tf.runtime.files import write_json
from mgta_tf.runtime.progress import counting, duration
from mgta_tf.runtime.tensorboard import TensorBoardWriter
from mgta_tf.runtime.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class ProbeConfig:
    """The probe (docs/protocols.md §2)."""

    saved_model: str = flag("", "SavedModel of the encoder, written by mgta_tf.export.")
    workdir: str = flag("", "Folder of a run with a saved_model/, in place of --saved_model.")
    output: str = flag("", "JSON file to write; features are cached in a folder next to it.")
    dataset: str = flag(
        "voc",
        "Data set: PASCAL VOC, or any labelled images that mgta_tf.train reads.",
        choices=("voc", "folder"),
    )
    voc_root: str = flag("", "Path of the VOCdevkit folder.")
    voc_year: str = flag("2007", "Year of VOC.", choices=("2007", "2012"), advanced=True)
    data_dir: str = flag("", "Labelled images of --dataset=folder, as mgta_tf.train reads them.")
    train_dir: str = flag("", "Folder of training images, in place of --data_dir; needs --val_dir.")
    val_dir: str = flag("", "Folder of test images for --train_dir; classes are matched by name.")
    train_split: str = flag(
        "", "Split to train on. Default: trainval (VOC), train (folder).", advanced=True
    )
    test_split: str = flag(
        "",
        "Split to test on. Default: test (VOC), val or else test (folder). If it equals "
        "--train_split, or the folder has no splits, each class is split in half.",
        advanced=True,
    )
    image_size: int = flag(
        0,
        "Image size in pixels per side for --dataset=folder; VOC uses 224. auto: the size of "
        "training, which the SavedModel records, else 64.",
        minimum=32,
        auto="auto",
    )
    endpoint: str = flag(
        "res4", "Endpoint whose features are evaluated.", choices=features.ENDPOINTS
    )
    svm_costs: str = flag(
        "goyal",
        "SVM costs to choose from: 26 (goyal), 11 (vissl), or a list such as 0.1,1,10.",
        advanced=True,
    )
    svm_impl: str = flag(
        "batched",
        "SVM solver: all fits at once (batched), or scikit-learn's LinearSVC one by one, the "
        "reference (liblinear).",
        choices=("batched", "liblinear"),
        advanced=True,
    )
    ap: str = flag(
        "area",
        "Definition of AP: area under the envelope, or VOC2007's 11 points.",
        choices=METHODS,
        advanced=True,
    )
    drop_difficult: bool = flag(
        False,
        "Exclusion of images with only difficult objects from training; the reference counts "
        "them as negatives.",
        advanced=True,
    )
    batch_size: int = flag(32, "Images encoded at once.", minimum=1, advanced=True)
    baselines: bool = flag(
        True, "Comparison with chance, a 4×4 color thumbnail and the untrained encoder."
    )


def main(config: ProbeConfig) -> None:
    began = time.monotonic()
    if not config.output:
        raise UserError("--output is required: the JSON file to write")
    if os.path.isdir(config.output):
        raise UserError(f"--output={config.output}: a folder; name the JSON file to write")
    if config.dataset == "voc" and (config.data_dir or config.train_dir or config.val_dir):
        raise UserError("--data_dir, --train_dir and --val_dir are for --dataset=folder; add it")
    saved_model = config.saved_model or os.path.join(config.workdir, "saved_model")
    costs = parse_costs(config.svm_costs)
    if config.dataset == "folder" and not config.image_size:
        config = dataclasses.replace(config, image_size=size_of_training(saved_model))
    sets = voc_sets(config) if config.dataset == "voc" else folder_sets(config)
    encode = features.load_encode(saved_model, config.endpoint)
    digest = features.model_digest(saved_model)
    extracted = encoded(config, sets, encode, digest)
    for part, (values, _) in zip(sets, extracted):
        print(f"{part.name} → {values.shape[1]} numbers")
    result = evaluate(config, costs, sets, [values for values, _ in extracted])
    result.update(
        endpoint=config.endpoint,
        pool=extracted[0][1],
        seconds=time.monotonic() - began,
        saved_model=saved_model,
        encoder=digest,
        baselines=compared(config, costs, sets, saved_model) if config.baselines else None,
    )
    write_json(config.output, result)
    if config.workdir:
        show_result(config.workdir, result)
    print_result(result)
    print(f"{config.output}: mAP {result['map']:.2f} in {duration(result['seconds'])}")


def size_of_training(saved_model: str) -> int:
    """The image size that a SavedModel records; 64, the paper's, for one of another program.

    Raises:
      UserError: the record is damaged.
    """
    recorded = os.path.isfile(os.path.join(saved_model, artifact.FACTS))
    return artifact.read_facts(saved_model).image_size if recorded else 64


def encoded(
    config: ProbeConfig, sets: list[Labelled], encode: features.Encode, of: str
) -> list[tuple[np.ndarray, str]]:
    """Features of both sets, cached next to --output, and their pooling as text.

    of: identifies the encoder.
    """
    folder = os.path.join(os.path.dirname(os.path.abspath(config.output)), "probe_features")
    found = []
    for part in sets:

        def make(part=part):
            pieces = features.in_batches(len(part.targets), config.batch_size)
            with counting(len(part.targets), builds=1.0) as progress:
                batches = progress.over(part.load(i) for i in pieces)
                return features.extract(encode, batches, config.endpoint)

        found.append(features.cached(folder, f"{of} {config.endpoint} {part.digest}", make))
    return found


def compared(
    config: ProbeConfig, costs: tuple[float, ...], sets: list[Labelled], saved_model: str
) -> dict[str, dict[str, float | None]]:
    """`map` and `top1` of chance, of 4×4 thumbnails, and of the untrained encoder."""
    found: dict[str, dict[str, float | None]] = {"chance": baselines.chance(*sets)}
    small = [
        np.concatenate(
            [
                baselines.thumbnails(part.load(i))
                for i in features.in_batches(len(part.targets), config.batch_size)
            ]
        )
        for part in sets
    ]
    features_of = {"thumbnail": small}
    if os.path.isfile(os.path.join(saved_model, artifact.FACTS)):
        facts = artifact.read_facts(saved_model)
        encode = baselines.untrained(facts, config.endpoint)
        of = f"untrained {facts.model} {facts.normalization} {baselines.SEED}"
        features_of["untrained"] = [values for values, _ in encoded(config, sets, encode, of)]
    for name, values in features_of.items():
        evaluated = evaluate(config, costs, sets, values)
        found[name] = {key: evaluated[key] for key in ("map", "top1")}
    return found


def evaluate(config: ProbeConfig, costs: tuple[float, ...], sets, values) -> dict:
    """SVMs, and k-NN where each image has one class; percentages are 0 to 100."""
    train, test = sets
    targets = train.targets
    if not config.drop_difficult:
        targets = np.where(targets == 0, -1, targets)  # in training only, as in the reference
    found = svm.linear_svm(
        values[0], targets, values[1], test.targets, costs=costs, impl=config.svm_impl, ap=config.ap
    )
    names = train.class_names
    result = {
        "map": found.map,
        "per_class": dict(zip(names, found.ap)),
        "cost": dict(zip(names, found.cost)),
        "top1": None,
        "knn": None,
        "num_train": len(targets),
        "num_test": len(test.targets),
        "ap": config.ap,
        "svm_impl": config.svm_impl,
        "svm_costs": list(costs),
        "svm_seconds": found.seconds,
        "svm_error": found.error,
        "unconverged": found.unconverged,
    }
    if train.labels is not None:
        result["top1"] = 100 * float(np.mean(found.scores.argmax(1) == test.labels))
        result["knn"] = knn_accuracy(values[0], train.labels, values[1], test.labels)
    return result


def parse_costs(text: str) -> tuple[float, ...]:
    """Parses --svm_costs: the name of a list, or numbers.

    Raises:
      UserError: `text` is neither.
    """
    if text in svm.COSTS:
        return svm.COSTS[text]
    try:
        costs = tuple(float(word) for word in text.split(","))
    except ValueError:
        costs = (0.0,)
    if min(costs) <= 0:
        raise UserError(
            f"--svm_costs={text}: must be goyal, vissl, or positive numbers as 0.1,1,10"
        )
    return costs


def show_result(workdir: str, result: dict) -> None:
    """Writes the result to TensorBoard's HParams tab, which compares runs."""
    accuracies = {
        "top1": result["top1"],
        **{f"knn{k}": v for k, v in (result["knn"] or {}).items()},
    }
    values = {"map": result["map"], **accuracies}
    board = TensorBoardWriter(Workdir(workdir).tensorboard)
    board.scalars("run", 0, {f"result/{name}": v for name, v in values.items() if v is not None})
    board.flush()


def print_result(result: dict) -> None:
    """Prints the AP of each class of VOC, or the accuracies of a folder."""
    undefined = [name for name, ap in result["per_class"].items() if not np.isfinite(ap)]
    if result["top1"] is None:
        for name, ap in result["per_class"].items():
            cost = result["cost"][name]
            shown = "-" if name in undefined else f"{ap:5.1f}   C = {cost:g}"
            print(f"  {name:15s} {shown:>5s}")
    else:
        knn = ", ".join(f"{k}-NN {value:.2f}" for k, value in result["knn"].items())
        print(f"  top-1 {result['top1']:.2f}, {knn}")
    for name, values in (result["baselines"] or {}).items():
        top1 = "" if values["top1"] is None else f", top-1 {values['top1']:.2f}"
        print(f"  {name}: mAP {values['map'] or 0:.2f}{top1}")
    if undefined:
        names = printable(", ".join(undefined))
        print(f"    classes without positives, which have no AP and do not enter the mean: {names}")
    if result["unconverged"]:
        print(f"  {result['unconverged']} fits did not converge")


if __name__ == "__main__":
    cli.run(main, ProbeConfig)
