"""Judges a frozen encoder by linear SVMs: the protocol of the paper's Table 2.

  python -m mgta_tf.probe --saved_model=DIR --voc_root=VOCdevkit --output=probe.json
  python -m mgta_tf.probe --saved_model=DIR --dataset=folder --data_dir=tiny-imagenet-100 \\
      --output=probe.json
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from mgta_tf import cli
from mgta_tf.config import flag
from mgta_tf.data import images, voc
from mgta_tf.data.annotated import oriented
from mgta_tf.data.sources import DataConfig, open_source
from mgta_tf.data.store import load_store
from mgta_tf.errors import UserError
from mgta_tf.evaluation import features, svm
from mgta_tf.evaluation.ap import METHODS
from mgta_tf.evaluation.knn import knn_accuracy
from mgta_tf.runtime import files
from mgta_tf.runtime.files import write_json
from mgta_tf.runtime.progress import duration
from mgta_tf.runtime.tensorboard import TensorBoardWriter
from mgta_tf.runtime.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class ProbeConfig:
    """The probe (protocols §2)."""

    saved_model: str = flag("", "The encoder, as mgta_tf.export wrote it.")
    workdir: str = flag("", "In place of --saved_model: a run that has a saved_model/.")
    output: str = flag("", "JSON to write; features are kept in a folder beside it.")
    dataset: str = flag(
        "voc",
        "PASCAL VOC, or any labelled images that mgta_tf.train reads.",
        choices=("voc", "folder"),
    )
    voc_root: str = flag("", "VOCdevkit.")
    voc_year: str = flag("2007", "Which of its years.", choices=("2007", "2012"))
    data_dir: str = flag("", "Of --dataset=folder.")
    train_split: str = flag("", "Default trainval (VOC), train (folder).")
    test_split: str = flag(
        "", "Default test (VOC), val (folder). The same as --train_split: halves of it, by class."
    )
    image_size: int = flag(64, "Pixels per side, of --dataset=folder; VOC has 224.", minimum=32)
    endpoint: str = flag("res4", "What is read.", choices=features.ENDPOINTS)
    svm_costs: str = flag("goyal", "26 costs (goyal), 11 (vissl), or a list as 0.1,1,10.")
    svm_impl: str = flag(
        "batched",
        "All fits at once, or scikit-learn's LinearSVC one by one: the reference.",
        choices=("batched", "liblinear"),
    )
    ap: str = flag("area", "Area under the envelope, or VOC2007's 11 points.", choices=METHODS)
    drop_difficult: bool = flag(
        False, "Leave difficult-only images out of training; the reference has them as negatives."
    )
    batch_size: int = flag(32, "Images encoded at once.", minimum=1)


@dataclasses.dataclass(frozen=True)
class Labelled:
    """Images with targets. name: of the set. load: indices → uint8 [n, S, S, 3].

    targets: int8 [N, C] in {1, 0, -1}. labels: int [N] where each image has one class, else None.
    """

    name: str
    load: Callable[[np.ndarray], np.ndarray]
    targets: np.ndarray
    labels: np.ndarray | None
    class_names: tuple[str, ...]


def main(config: ProbeConfig) -> None:
    began = time.monotonic()
    if not config.output:
        raise UserError("--output is missing: name the JSON to write")
    saved_model = config.saved_model or os.path.join(config.workdir, "saved_model")
    costs = parse_costs(config.svm_costs)
    sets = voc_sets(config) if config.dataset == "voc" else folder_sets(config)
    encode = features.load_encode(saved_model, config.endpoint)
    digest = features.model_digest(saved_model)
    folder = os.path.join(os.path.dirname(os.path.abspath(config.output)), "probe_features")
    extracted = []
    for part in sets:

        def make(part=part):
            pieces = features.in_batches(len(part.targets), config.batch_size)
            return features.extract(encode, (part.load(i) for i in pieces), config.endpoint)

        extracted.append(features.cached(folder, f"{digest} {config.endpoint} {part.name}", make))
        print(f"{part.name}: {len(part.targets)} images → {extracted[-1][0].shape[1]} numbers")
    result = judge(config, costs, sets, [values for values, _ in extracted])
    result.update(
        endpoint=config.endpoint,
        pool=extracted[0][1],
        seconds=time.monotonic() - began,
        saved_model=saved_model,
    )
    write_json(config.output, result)
    if config.workdir:
        show_result(config.workdir, result)
    print_result(result)
    print(f"{config.output}: mAP {result['map']:.2f} in {duration(result['seconds'])}")


def judge(config: ProbeConfig, costs: tuple[float, ...], sets, values) -> dict:
    """SVMs, and k-NN where each image has one class; percentages are 0 to 100."""
    train, test = sets
    targets = train.targets
    if not config.drop_difficult:
        targets = np.where(targets == 0, -1, targets)  # as the reference does, in training only
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


def voc_sets(config: ProbeConfig) -> list[Labelled]:
    """The two splits of VOC, with the protocol's images."""
    if not config.voc_root:
        raise UserError("--voc_root is missing: name the VOCdevkit folder")
    folder = voc.year_dir(config.voc_root, config.voc_year)
    sets = []
    for split in (config.train_split or "trainval", config.test_split or "test"):
        ids, targets = voc.class_labels(folder, split)
        annotations = [voc.annotation_path(folder, image_id) for image_id in ids]
        loader = _voc_loader(voc.image_paths(folder, split, ids), annotations)
        name = f"{os.path.abspath(folder)} {split} 256→224"
        sets.append(Labelled(name, loader, targets, None, voc.CLASSES))
    return sets


def _voc_loader(paths: list[str], annotations: list[str]):
    """Photographs the same way up as the detector sees them, for `Labelled.load`."""
    pool = ThreadPoolExecutor()

    def one(number: int) -> np.ndarray:
        path, annotation = paths[number], annotations[number]
        try:
            pixels, orientation = images.decode_stored(files.read(path, images.MAX_BYTES))
            if orientation != 1:
                size, boxes = None, False
                if os.path.exists(annotation):
                    found = voc.read_annotation(annotation)
                    size, boxes = found.size, bool(found.boxes)
                pixels = oriented(pixels, orientation, size, boxes)
            return features.voc_image(pixels)
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}") from None
        except images.BadImage as error:
            raise UserError(f"{path}: {error}") from None

    return lambda numbers: np.stack(list(pool.map(one, numbers)))


def folder_sets(config: ProbeConfig) -> list[Labelled]:
    """Train and test images of a labelled folder; halves by class where it has no splits."""
    splits = config.train_split or "train", config.test_split or "val"
    data = DataConfig(data_dir=config.data_dir)
    has_splits = os.path.isfile(os.path.join(config.data_dir, "wnids.txt"))
    if has_splits and splits[0] != splits[1]:
        return [_labelled(config, data, split) for split in splits]
    whole = _labelled(config, data, splits[0])
    labels = np.asarray(whole.labels)
    order = np.argsort(labels, kind="stable")
    halves = [np.sort(order[start::2]) for start in (0, 1)]
    return [
        Labelled(
            f"{whole.name}, half {number + 1}",
            _part_of(whole.load, half),
            whole.targets[half],
            labels[half],
            whole.class_names,
        )
        for number, half in enumerate(halves)
    ]


def _part_of(load, chosen):
    return lambda numbers: load(chosen[numbers])


def _labelled(config: ProbeConfig, data: DataConfig, split: str) -> Labelled:
    source = open_source(data, split)
    if source.labels is None:
        raise UserError(
            f"--data_dir={config.data_dir}: no classes in it; one folder a class is one"
        )
    store = load_store(source, size=config.image_size)
    labels = np.asarray(store.labels)
    classes = np.arange(len(store.class_names))
    targets = np.where(labels[:, None] == classes, 1, -1).astype(np.int8)
    name = f"{os.path.abspath(config.data_dir)} {split} {len(store)} images of {store.size} px"
    return Labelled(name, store.batch, targets, labels, store.class_names)


def parse_costs(text: str) -> tuple[float, ...]:
    """--svm_costs: a named list, or numbers.

    Raises:
      UserError: neither.
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
    """Puts the result where TensorBoard's HParams tab compares runs."""
    accuracies = {
        "top1": result["top1"],
        **{f"knn{k}": v for k, v in (result["knn"] or {}).items()},
    }
    values = {"map": result["map"], **accuracies}
    board = TensorBoardWriter(Workdir(workdir).tensorboard)
    board.scalars("run", 0, {f"result/{name}": v for name, v in values.items() if v is not None})
    board.flush()


def print_result(result: dict) -> None:
    """A line for each of VOC's classes, or the accuracies of a folder's."""
    undefined = [name for name, ap in result["per_class"].items() if not np.isfinite(ap)]
    if result["top1"] is None:
        for name, ap in result["per_class"].items():
            cost = result["cost"][name]
            shown = "-" if name in undefined else f"{ap:5.1f}   C = {cost:g}"
            print(f"  {name:15s} {shown:>5s}")
    else:
        knn = ", ".join(f"{k}-NN {value:.2f}" for k, value in result["knn"].items())
        print(f"  top-1 {result['top1']:.2f}, {knn}")
    if undefined:
        print(f"  no AP, and not in the mean, for want of positives: {', '.join(undefined)}")
    if result["unconverged"]:
        print(f"  {result['unconverged']} fits stopped before they converged")


if __name__ == "__main__":
    cli.run(main, ProbeConfig)
