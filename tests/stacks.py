"""Interrupted runs, which one stack of BUILD.md begins and the other resumes.

    python tests/stacks.py tests/runtime/interrupted/tensorflow-2.20.tar.xz

writes those of the installed TensorFlow for `tests/runtime/test_stacks.py`. Each has the folder
`checkpoints`, and `expected.json`: the state in the checkpoint, and the loss of the next step.
"""

import contextlib
import dataclasses
import hashlib
import json
import pathlib
import shutil
import sys
import tarfile
import tempfile
import time
from unittest import mock

import numpy as np
from small import FLAGS

from mgta_tf import config as config_lib
from mgta_tf import train
from mgta_tf.data.store import open_images
from mgta_tf.runtime import preemption
from mgta_tf.runtime.workdir import Workdir
from mgta_tf.training import guidance, trainer
from mgta_tf.training.config import TrainConfig
from mgta_tf.training.session import Session

NET = {"width": 1 / 512, "blocks": (1, 1, 1, 1), "image_size": 32, "data_source": ""}
CROPS = {"crop_min_area": 0.4, "color_jitter": 0.2, "grayscale": 0.0}  # when they were written
RUNS = {
    # Two nets, pseudo labels, and a loss scale that falls at the first steps of stage 2.
    "clusters": {
        **FLAGS, **NET, **CROPS, "num_clusters": 5, "mixed_precision": "float16",
        "reconstruction_weight": 16.0, "probe_every_rounds": 0,
    },
    # The default recipe: one net, no labels.
    "views": {
        **NET, **CROPS, "final_epochs": 1, "clusters_per_batch": 8, "images_per_cluster": 2,
    },
}  # fmt: skip


def write_images(folder):
    """96 files of 32 px with the same bytes on every stack."""
    folder.mkdir()
    for number in range(96):
        pixels = np.arange(32 * 32 * 3) * (number + 3) // 7 % 256
        content = b"P6\n32 32\n255\n" + pixels.astype(np.uint8).tobytes()
        (folder / f"{number:02d}.ppm").write_bytes(content)


def config_of(name, workdir, images):
    flags = {**RUNS[name], "workdir": str(workdir), "data_dir": str(images)}
    return config_lib.from_dict(TrainConfig, flags)


def resume(name, workdir, images):
    """Opens a run as `train.train` does."""
    config = config_of(name, workdir, images)
    store = open_images(config.data, config.augment.image_size)
    return Session.open(config, Workdir(str(workdir)), store, time.monotonic())


def state_of(session):
    """Digests of weights, state of the optimizers and labels; steps and loss scales; by name."""
    found = {f"labels {half}": digest([labels]) for half, labels in session.labels.items()}
    for number, net in enumerate(dict.fromkeys(session.nets)):
        found[f"weights {number}"] = digest(v.numpy() for v in net.model.variables)
        found[f"optimizer {number}"] = digest(v.numpy() for v in net.optimizer.variables)
        found[f"steps {number}"] = int(net.optimizer.iterations.numpy())
        if hasattr(net.optimizer, "loss_scale"):
            found[f"loss scale {number}"] = float(net.optimizer.loss_scale.numpy())
    return found


def digest(arrays):
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def loss_of_next_step(session):
    """Trains the last step of a run that was interrupted before it."""
    number = session.position.turn
    turn, config = session.timeline.turns[number], session.config
    assert session.position.step == session.timeline.steps[number] - 1
    images = guidance.images_of(turn, len(session.store), config.guidance, config.run.seed)
    labels = guidance.labels_of(turn, images, session.labels, config.guidance)
    try:
        return trainer.train(session, number, images, labels, lambda *_: None).row["loss"]
    finally:
        preemption.release()


def interrupt(name, workdir, images):
    """Trains until only the last step is missing; returns the state in the checkpoint."""
    config = config_of(name, workdir, images)
    robustness = dataclasses.replace(config.robustness, checkpoint_every_steps=1)
    states = []

    def save_and_stop(session, number, step, log):
        if (number, step) == (len(session.timeline.turns) - 1, session.timeline.steps[number] - 1):
            save(session, number, step, log)
            states.append(state_of(session))
            raise KeyboardInterrupt

    save = Session.save_step
    with (
        mock.patch.object(Session, "save_step", save_and_stop),
        contextlib.suppress(KeyboardInterrupt),
    ):
        train.train(dataclasses.replace(config, robustness=robustness))
    preemption.release()
    return states[0]


def main(archive):
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        images, kept = root / "images", root / "kept"
        write_images(images)
        for name in RUNS:
            state = interrupt(name, root / name, images)
            newest = max(
                (root / name / "checkpoints").glob("ckpt-*.index"), key=lambda p: p.stat().st_mtime
            )
            (kept / name / "checkpoints").mkdir(parents=True)
            for path in newest.parent.glob(f"{newest.stem}.*"):
                shutil.copy(path, kept / name / "checkpoints")
            session = resume(name, kept / name, images)
            expected = {**state, "loss": loss_of_next_step(session)}
            (kept / name / "expected.json").write_text(json.dumps(expected))
        with tarfile.open(archive, "w:xz", preset=9) as file:
            file.add(kept, arcname=".")


if __name__ == "__main__":
    main(sys.argv[1])
