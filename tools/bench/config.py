"""Flags of `tools/bench.py`."""

from __future__ import annotations

import dataclasses

from mgta_tf.config import flag


@dataclasses.dataclass(frozen=True)
class BenchConfig:
    """The benchmark."""

    json: str = flag("", "JSON to write: a list of bench, ours, peer, unit, ratio, target, pass.")
    torch_python: str = flag("", "Interpreter of an environment that has PyTorch.")
    repeats: int = flag(7, "Repetitions of both implementations, alternating.", minimum=1)
    net: str = flag(
        "",
        "Net of 'step', 'decoders', 'threads' and 'precision': full size at 64 px, or the small "
        "model at 32 px; empty is both.",
        choices=("", "full", "small"),
    )
    decoder: str = flag(
        "none",
        "Decoder of the nets of 'step'; none is the default of mgta_tf.train.",
        choices=("none", "mirror"),
    )
    precision: str = flag(
        "",
        "Precision of 'threads'; empty is both.",
        choices=("", "float32", "bfloat16"),
    )
    ways: str = flag(
        "",
        "Arrangements of 'threads' besides TensorFlow's default, separated by commas, as its table "
        "names them; empty is all.",
    )
    images: int = flag(1024, "JPEG files of 'epoch' and 'encode'.", minimum=128)
    sampled: int = flag(60_000, "Images of 'sampler' and 'memory'.", minimum=2000)
    start_images: int = flag(200_000, "Largest number of images of 'start'.", minimum=1000)
    start_folder: str = flag(
        "", "Folder in which 'start' writes its files, and keeps them; '' is a temporary one."
    )
    round_images: int = flag(8192, "Largest N of a round in 'scaling'.", minimum=8192)
    plot: str = flag("", "PNG that 'scaling' draws.")
