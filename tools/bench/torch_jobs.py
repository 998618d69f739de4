"""The PyTorch jobs of tools/bench.py, as a user would write them. Needs PyTorch only.

  PYTHON_OF_PYTORCH tools/bench/torch_jobs.py JOB '{"size": 64, …}'

It prepares the job and prints a line of JSON: `versions`, and `unavailable`, the reason if the job
cannot run here. Then, for each line on stdin, it runs the job once and prints the seconds, so
tools/bench.py can run both in turns.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import time
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn


class UnavailableError(Exception):
    """The job cannot run in this environment."""


def convolution(before: int, after: int, size: int, stride: int, transposed: bool) -> nn.Module:
    options = dict(stride=stride, padding=size // 2, bias=False)
    if transposed:
        return nn.ConvTranspose2d(before, after, size, output_padding=stride - 1, **options)
    return nn.Conv2d(before, after, size, **options)


class Bottleneck(nn.Module):
    """`mgta_tf.models.layers.bottleneck`."""

    def __init__(self, before: int, inner: int, outer: int, stride: int, transposed: bool):
        super().__init__()
        self.body = nn.Sequential(
            convolution(before, inner, 1, 1, transposed),
            nn.BatchNorm2d(inner),
            nn.ReLU(inplace=True),
            convolution(inner, inner, 3, stride, transposed),
            nn.BatchNorm2d(inner),
            nn.ReLU(inplace=True),
            convolution(inner, outer, 1, 1, transposed),
            nn.BatchNorm2d(outer),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != outer:
            projection = convolution(before, outer, 1, stride, transposed)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(outer))

    def forward(self, x):
        return torch.relu_(self.body(x) + self.shortcut(x))


class Autoencoder(nn.Module):
    """Table 1, as `mgta_tf.models.autoencoder.build_autoencoder` builds it."""

    def __init__(self, width: float, blocks: list[int]):
        super().__init__()

        def channels(full: int) -> int:
            return max(4, round(full * width))

        x = channels(64)
        self.stem = nn.Sequential(
            nn.Conv2d(3, x, 7, 2, 3, bias=False),
            nn.BatchNorm2d(x),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, 1),
        )
        self.stages = nn.ModuleList()
        for stage, count in enumerate(blocks, start=2):
            inner, layers = channels(64 * 2 ** (stage - 2)), []
            for block in range(count):
                stride = 2 if block == 0 and stage > 2 else 1
                layers.append(Bottleneck(x, inner, channels(256 * 2 ** (stage - 2)), stride, False))
                x = channels(256 * 2 ** (stage - 2))
            self.stages.append(nn.Sequential(*layers))
        layers = []
        for stage, count in zip((5, 4, 3, 2), reversed(blocks)):
            for block in range(count):
                last = block == count - 1
                full = {5: 1024, 4: 512, 3: 256, 2: 64}[stage] if last else 64 * 2**stage
                inner = channels(64 * 2 ** (stage - 2))
                layers.append(
                    Bottleneck(x, inner, channels(full), 2 if last and stage > 2 else 1, True)
                )
                x = channels(full)
        layers += [nn.Upsample(scale_factor=2, mode="bilinear"), nn.ConvTranspose2d(x, 3, 8, 2, 3)]
        self.decoder: nn.Module | None = nn.Sequential(*layers)

    def encode(self, images, endpoint: str):
        x = self.stem(images)
        for number, stage in enumerate(self.stages, start=2):
            x = stage(x)
            if endpoint == f"res{number}":
                break
        return x.mean((2, 3)) if endpoint == "embedding" else x


def triplet_loss(embeddings, labels, margin: float = 0.3):
    """Batch-hard, eq. 6."""
    distances = torch.cdist(embeddings, embeddings)
    same = labels[:, None] == labels[None]
    farthest = (distances * same).max(1).values
    nearest = (distances + 1e9 * same).min(1).values
    return torch.relu(farthest - nearest + margin).mean()


def step(
    size: int,
    width: float,
    blocks: list[int],
    batch: int,
    decoder: str = "mirror",
    precision: str = "float32",
    compiled: bool = False,
):
    """A training step without augmentation, in the faster of the two memory formats.

    decoder: 'mirror' or 'none'. precision: 'float32', or 'bfloat16' under autocast. compiled: by
    torch.compile, in the format that is faster without it.
    """
    compiler = os.environ.get("CXX", "g++")
    if compiled and not shutil.which(compiler):
        raise UnavailableError(f"no C++ compiler: {compiler} is not installed")

    def made(layout, compiled: bool):
        net = Autoencoder(width, blocks).to(memory_format=layout)
        if decoder == "none":
            net.decoder = None
        images = torch.rand(batch, 3, size, size).to(memory_format=layout)
        once = training_step(net, images, precision, compiled)
        for _ in range(2):  # torch.compile compiles in them
            once()
        return once

    layouts = (torch.contiguous_format, torch.channels_last)
    steps = {layout: made(layout, False) for layout in layouts}
    fastest = min(layouts, key=lambda layout: min(seconds_of(steps[layout]) for _ in range(3)))
    print(f"PyTorch, {precision}: {fastest}", file=sys.stderr, flush=True)
    return made(fastest, True) if compiled else steps[fastest]


def training_step(net: Autoencoder, images, precision: str, compiled: bool):
    """Forward pass, backward pass and Adam on one batch."""
    labels = torch.arange(len(images)) // 4
    optimizer = torch.optim.AdamW(net.parameters(), 3e-3)

    def loss_of(images):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            features = net.encode(images, "res5")
            reconstructions = net.decoder(features) if net.decoder else None
        loss = 0.5 * triplet_loss(features.float().mean((2, 3)), labels)
        if reconstructions is not None:
            errors = torch.square(reconstructions.float() - images).flatten(1).sum(1)
            loss = loss + errors.mean()
        return loss

    if compiled:
        loss_of = torch.compile(loss_of)

    def once():
        loss = loss_of(images)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return once


def seconds_of(once) -> float:
    began = time.monotonic()
    once()
    return time.monotonic() - began


class Folder(torch.utils.data.Dataset):
    def __init__(self, folder: str, size: int):
        self.paths = sorted(os.path.join(folder, name) for name in os.listdir(folder))
        self.size = size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int):
        image = Image.open(self.paths[index]).convert("RGB")
        image = image.resize((self.size, self.size), Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(image).transpose(2, 0, 1))


def encode(folder: str, endpoint: str, size: int, width: float, blocks: list[int], batch: int):
    """A folder of JPEG files to features."""
    net = Autoencoder(width, blocks).eval().to(memory_format=torch.channels_last)
    workers = os.cpu_count()
    loader = torch.utils.data.DataLoader(
        Folder(folder, size), batch, num_workers=workers, persistent_workers=True
    )

    def once():
        with torch.inference_mode():
            for images in loader:
                images = images.to(memory_format=torch.channels_last).float() / 255
                features = net.encode(images, endpoint)
                if features.ndim == 4:
                    features = features.mean((2, 3))
                features.numpy()

    once()
    return once


def sampler(images: int, size: int, clusters: int, P: int, K: int, batches: int):
    """P×K batches of uint8 images in memory: a batch sampler and a DataLoader."""
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.integers(0, 256, (images, 3, size, size), dtype=np.uint8))
    labels = rng.integers(0, clusters, images)
    data = torch.utils.data.TensorDataset(pixels, torch.from_numpy(labels))
    members = [np.flatnonzero(labels == cluster) for cluster in range(clusters)]

    class Batches(torch.utils.data.Sampler):
        def __iter__(self):
            for _ in range(batches):
                chosen = rng.choice(clusters, P, replace=False)
                yield np.concatenate([rng.choice(members[c], K, replace=False) for c in chosen])

        def __len__(self) -> int:
            return batches

    loader = torch.utils.data.DataLoader(data, batch_sampler=Batches(), num_workers=0)

    def once():
        for _ in loader:
            pass

    once()
    return once


def main() -> None:
    job, arguments = sys.argv[1], json.loads(sys.argv[2])
    torch.manual_seed(0)
    torch.set_num_threads(os.cpu_count() or 1)
    jobs: dict[str, Any] = {"step": step, "encode": encode, "sampler": sampler}
    facts = {"versions": {"torch": torch.__version__, "python": platform.python_version()}}
    try:
        once = jobs[job](**arguments)
    except UnavailableError as error:
        print(json.dumps({**facts, "unavailable": str(error)}), flush=True)
        return
    print(json.dumps(facts), flush=True)
    for _ in sys.stdin:
        print(seconds_of(once), flush=True)


if __name__ == "__main__":
    main()
