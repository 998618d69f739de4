"""The PyTorch side of tools/peers.py: the same encoder, and the methods.

  PYTHON_OF_PYTORCH tools/peers/torch_methods.py train JOB.json
  PYTHON_OF_PYTORCH tools/peers/torch_methods.py endpoints|augmented JOB.json

Losses and projection heads are lightly's. The encoder pads as TensorFlow does and starts from
weights that TensorFlow drew; images are cropped and colored as `mgta_tf.data.pipeline` does it.
All files between the two sides are .npz. One thread, no GPU. TensorFlow is never imported.
"""

from __future__ import annotations

import copy
import json
import math
import os
import platform
import sys
import time
from typing import Any

import lightly
import numpy as np
import torch
from lightly.loss import NegativeCosineSimilarity, NTXentLoss, SwaVLoss, VICRegLoss
from lightly.models import utils
from lightly.models.modules import heads
from lightly.models.modules.nn_memory_bank import NNMemoryBankModule
from torch import nn
from torch.nn import functional

WEIGHT_DECAY = 1e-4  # of kernels only, as in mgta_tf.training.optimization
WARMUP_SHARE = 0.05  # of all steps
DRAWS = 9  # random numbers for an image: four of its crop, one of its flip, four of its colors
EMBEDDING = 128  # outputs of a projection head


def pad_same(x, size: int, stride: int, value: float = 0.0):
    """TensorFlow's 'same' padding of [N, c, h, w]; an odd pixel goes to the end."""
    padding = []
    for length in (x.shape[3], x.shape[2]):
        total = max((math.ceil(length / stride) - 1) * stride + size - length, 0)
        padding += [total // 2, total - total // 2]
    return functional.pad(x, padding, value=value) if any(padding) else x


class ConvBn(nn.Module):
    """A bias-free convolution and batch norm, as in `mgta_tf.models.layers`."""

    def __init__(self, before: int, after: int, size: int, stride: int):
        super().__init__()
        self.size, self.stride = size, stride
        self.padding = (size - 1) // 2 if stride == 1 else 0
        self.conv = nn.Conv2d(before, after, size, stride, self.padding, bias=False)
        self.bn = nn.BatchNorm2d(after, eps=1e-5, momentum=0.1)

    def forward(self, x):
        return self.bn(self.conv(x if self.padding else pad_same(x, self.size, self.stride)))


class Encoder(nn.ModuleDict):
    """The layers of `mgta_tf.models.encoder.build_encoder`, by the same names.

    [N, 3, H, W] in 0..1 → {'res2': [N, 256w, H/4, W/4], …, 'res5', 'embedding': [N, 2048w]}.
    """

    def __init__(self, width: float, blocks: list[int]):
        super().__init__()
        self.blocks = blocks

        def channels(full: int) -> int:
            return max(4, round(full * width))

        before = channels(64)
        self["conv1"] = ConvBn(3, before, 7, 2)
        for stage, (count, full) in enumerate(zip(blocks, (64, 128, 256, 512)), start=2):
            inner, outer = channels(full), channels(4 * full)
            for block in range(1, count + 1):
                name, stride = f"res{stage}_block{block}", 2 if block == 1 and stage > 2 else 1
                if stride != 1 or before != outer:
                    self[f"{name}_proj"] = ConvBn(before, outer, 1, stride)
                self[f"{name}_1"] = ConvBn(before, inner, 1, 1)
                self[f"{name}_2"] = ConvBn(inner, inner, 3, stride)
                self[f"{name}_3"] = ConvBn(inner, outer, 1, 1)
                before = outer
        self.dimensions = before

    def forward(self, images) -> dict[str, torch.Tensor]:
        x = torch.relu_(self["conv1"](images))
        x = functional.max_pool2d(pad_same(x, 3, 2, -math.inf), 3, 2)
        endpoints = {}
        for stage, count in enumerate(self.blocks, start=2):
            for block in range(1, count + 1):
                x = self._bottleneck(x, f"res{stage}_block{block}")
            endpoints[f"res{stage}"] = x
        endpoints["embedding"] = x.mean((2, 3))
        return endpoints

    def _bottleneck(self, x, name: str):
        shortcut = self[f"{name}_proj"](x) if f"{name}_proj" in self else x
        x = torch.relu_(self[f"{name}_1"](x))
        x = torch.relu_(self[f"{name}_2"](x))
        return torch.relu_(self[f"{name}_3"](x) + shortcut)


def augment(images, draws, crop_min_area: float, color_jitter: float, grayscale: float):
    """Crop, flip and colors of `mgta_tf.data.pipeline.augment`, from the same random numbers.

    uint8 [N, 3, S, S] and float32 [N, DRAWS] in [0, 1) → float32 [N, 3, S, S] in 0..1.
    """
    area = crop_min_area + draws[:, 0] * (1 - crop_min_area)
    aspect = torch.exp((2 * draws[:, 1] - 1) * math.log(4 / 3))
    height, width = (torch.sqrt(area * a).clamp(max=1.0) for a in (1 / aspect, aspect))
    top, left = draws[:, 2] * (1 - height), draws[:, 3] * (1 - width)
    bottom, right = ((a + b).clamp(max=1 - 1e-5) for a, b in ((top, height), (left, width)))
    mirrored, places = draws[:, 4] >= 0.5, torch.linspace(0, 1, images.shape[2])
    first, last = torch.where(mirrored, right, left), torch.where(mirrored, left, right)
    rows = torch.lerp(top[:, None], bottom[:, None], places)
    columns = torch.lerp(first[:, None], last[:, None], places)
    columns, rows = torch.broadcast_tensors(columns[:, None, :], rows[:, :, None])
    grid = torch.stack([columns, rows], -1) * 2 - 1
    x = functional.grid_sample(
        images.float().div_(255), grid, padding_mode="border", align_corners=True
    )

    def gray(x):  # luma of ITU-R BT.601
        return (x * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)

    changes = 1 + color_jitter * (2 * draws[:, 5:8] - 1)
    brightness, contrast, saturation = changes.T[:, :, None, None, None]
    x = x * brightness
    x = torch.lerp(gray(x).mean((2, 3), keepdim=True), x, contrast)
    x = torch.lerp(gray(x), x, saturation).clamp_(0, 1)
    return torch.where((draws[:, 8] < grayscale)[:, None, None, None], gray(x), x)


class SimCLR(nn.Module):
    """Chen et al., 2020. https://arxiv.org/abs/2002.05709"""

    views, passes = 2, 2.0

    def __init__(self, encoder: Encoder, options: dict[str, Any]):
        super().__init__()
        d = encoder.dimensions
        self.encoder, self.head = encoder, heads.SimCLRProjectionHead(d, d, EMBEDDING)
        self.criterion = NTXentLoss(options["temperature"])

    def forward(self, images, _labels, _progress: float):
        return self.criterion(*self.head(self.encoder(images)["embedding"]).chunk(2))


class NNCLR(nn.Module):
    """Dwibedi et al., 2021. https://arxiv.org/abs/2104.14548"""

    views, passes = 2, 2.0

    def __init__(self, encoder: Encoder, _options: dict[str, Any]):
        super().__init__()
        d = encoder.dimensions
        self.encoder, self.head = encoder, heads.NNCLRProjectionHead(d, d, EMBEDDING)
        self.predictor = heads.NNCLRPredictionHead(EMBEDDING, d, EMBEDDING)
        self.bank = NNMemoryBankModule(size=(4096, EMBEDDING))
        self.criterion = NTXentLoss(temperature=0.1)

    def forward(self, images, _labels, _progress: float):
        projected = self.head(self.encoder(images)["embedding"])
        first, second = self.predictor(projected).chunk(2)
        z0, z1 = projected.detach().chunk(2)
        neighbors = self.bank(z0, update=False), self.bank(z1, update=True)
        losses = self.criterion(neighbors[0], second), self.criterion(neighbors[1], first)
        return (losses[0] + losses[1]) / 2


class VICReg(nn.Module):
    """Bardes et al., 2022. https://arxiv.org/abs/2105.04906"""

    views, passes = 2, 2.0

    def __init__(self, encoder: Encoder, _options: dict[str, Any]):
        super().__init__()
        d = encoder.dimensions  # its expander is that of Barlow Twins
        self.encoder, self.head = encoder, heads.BarlowTwinsProjectionHead(d, 2 * d, 2 * d)
        self.criterion = VICRegLoss()

    def forward(self, images, _labels, _progress: float):
        return self.criterion(*self.head(self.encoder(images)["embedding"]).chunk(2))


class BYOL(nn.Module):
    """Grill et al., 2020. https://arxiv.org/abs/2006.07733"""

    views, passes = 2, 2 + 2 / 3  # the target network only runs forward

    def __init__(self, encoder: Encoder, _options: dict[str, Any]):
        super().__init__()
        d = encoder.dimensions
        self.encoder, self.head = encoder, heads.BYOLProjectionHead(d, 2 * d, EMBEDDING)
        self.predictor = heads.BYOLPredictionHead(EMBEDDING, 2 * d, EMBEDDING)
        self.targets = copy.deepcopy(nn.ModuleList([self.encoder, self.head]))
        self.targets.requires_grad_(False)
        self.criterion = NegativeCosineSimilarity()

    def forward(self, images, _labels, progress: float):
        momentum = 1 - 0.01 * (1 + math.cos(math.pi * progress)) / 2  # 0.99 to 1, as a cosine
        for online, target in zip((self.encoder, self.head), self.targets):
            utils.update_momentum(online, target, momentum)
        first, second = self.predictor(self.head(self.encoder(images)["embedding"])).chunk(2)
        with torch.no_grad():
            encoder, head = self.targets
            z0, z1 = head(encoder(images)["embedding"]).chunk(2)
        return (self.criterion(first, z1) + self.criterion(second, z0)) / 2


class SwAV(nn.Module):
    """Caron et al., 2020, with two crops. https://arxiv.org/abs/2006.09882

    Codes are balanced over the batch and the projections of the last 1,024 photographs.
    """

    views, passes = 2, 2.0
    PROTOTYPES, QUEUE = 256, 1024

    def __init__(self, encoder: Encoder, _options: dict[str, Any]):
        super().__init__()
        d = encoder.dimensions
        self.encoder, self.head = encoder, heads.SwaVProjectionHead(d, d, EMBEDDING)
        self.prototypes = heads.SwaVPrototypes(EMBEDDING, self.PROTOTYPES)
        self.criterion = SwaVLoss()
        self.queue = torch.zeros(2, 0, EMBEDDING)

    def forward(self, images, _labels, progress: float):
        self.prototypes.normalize()
        self.prototypes.requires_grad_(progress > WARMUP_SHARE)
        projected = functional.normalize(self.head(self.encoder(images)["embedding"]))
        queued = None
        if self.queue.shape[1] == self.QUEUE:
            with torch.no_grad():
                queued = list(self.prototypes(self.queue))
        loss = self.criterion(list(self.prototypes(projected).chunk(2)), [], queued)
        newest = torch.stack(projected.detach().chunk(2))
        self.queue = torch.cat([newest, self.queue], 1)[:, : self.QUEUE]
        return loss


class Triplets(nn.Module):
    """Two views alone: each image is its own cluster in `batch_hard_triplet_loss` (eq. 6).

    The other view is the only positive, the nearest of all other images the negative; no head, no
    second net, no decoder.
    """

    views, passes = 2, 2.0
    MARGIN = 0.3

    def __init__(self, encoder: Encoder, _options: dict[str, Any]):
        super().__init__()
        self.encoder = encoder

    def forward(self, images, _labels, _progress: float):
        x = functional.normalize(self.encoder(images)["embedding"])
        number = torch.arange(len(x)) % (len(x) // 2)
        similarity = (x @ x.T).masked_fill(number[:, None] == number, -math.inf)
        positive = (x - x.roll(len(x) // 2, 0)).norm(dim=1)
        negative = (x - x[similarity.argmax(1)]).norm(dim=1)
        return torch.relu(positive - negative + self.MARGIN).mean()


class Supervised(nn.Module):
    """Labels and softmax."""

    views, passes = 1, 1.0

    def __init__(self, encoder: Encoder, options: dict[str, Any]):
        super().__init__()
        self.encoder, self.head = encoder, nn.Linear(encoder.dimensions, options["classes"])

    def forward(self, images, labels, _progress: float):
        return functional.cross_entropy(self.head(self.encoder(images)["embedding"]), labels)


METHODS: dict[str, Any] = {
    "simclr": SimCLR,
    "nnclr": NNCLR,
    "vicreg": VICReg,
    "byol": BYOL,
    "swav": SwAV,
    "triplets": Triplets,
    "supervised": Supervised,
}


def load(encoder: Encoder, path: str) -> Encoder:
    """Loads the weights that the TensorFlow side wrote; every name must match."""
    with np.load(path) as arrays:
        encoder.load_state_dict({name: torch.from_numpy(arrays[name]) for name in arrays.files})
    return encoder


def save(encoder: Encoder, path: str) -> None:
    arrays = {name: value.numpy() for name, value in encoder.state_dict().items()}
    np.savez(path, **{n: a for n, a in arrays.items() if not n.endswith("num_batches_tracked")})


def learning_rate(peak: float, step: int, steps: int) -> float:
    """Linear warm-up, then a cosine decay to 0."""
    warmup = math.ceil(WARMUP_SHARE * steps)
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def batches(count: int, batch: int, steps: int, generator: torch.Generator):
    """Indices of `steps` batches, in shuffled passes whose incomplete last batch is dropped."""
    left = torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        if len(left) < batch:
            left = torch.randperm(count, generator=generator)
        yield left[:batch]
        left = left[batch:]


def train(job: dict[str, Any]) -> dict[str, Any]:
    """Trains a method for `passes` image passes per photograph.

    A pass is the encoder forward and backward over one image; a forward alone is a third of one.
    The job names `images` (.npz: uint8 `pixels` [N, S, S, 3], int64 `labels` [N]), the `initial`
    weights, `weights` to write, `flags` and `seed`.
    """
    began, cpu, flags = time.monotonic(), time.process_time(), job["flags"]
    torch.manual_seed(job["seed"])
    generator = torch.Generator().manual_seed(job["seed"])
    with np.load(job["images"]) as arrays:
        pixels = torch.from_numpy(arrays["pixels"]).permute(0, 3, 1, 2).contiguous()
        labels = torch.from_numpy(arrays["labels"])
    encoder = load(Encoder(flags["width"], flags["blocks"]), job["initial"])
    method = METHODS[flags["method"]](encoder, {**flags, "classes": int(labels.max()) + 1})
    method.to(memory_format=torch.channels_last).train()
    learned = [p for p in method.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in learned if p.ndim > 1], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in learned if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, flags["learning_rate"], fused=True)
    steps = max(1, round(flags["passes"] * len(pixels) / (method.passes * flags["batch"])))
    crops = {name: flags[name] for name in ("crop_min_area", "color_jitter", "grayscale")}
    losses = []
    for step, chosen in enumerate(batches(len(pixels), flags["batch"], steps, generator)):
        draws = torch.rand(method.views * len(chosen), DRAWS, generator=generator)
        views = augment(pixels[chosen].repeat(method.views, 1, 1, 1), draws, **crops)
        views = views.contiguous(memory_format=torch.channels_last)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(flags["learning_rate"], step, steps)
        loss = method(views, labels[chosen], step / steps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            raise ValueError(f"step {step}: the loss is {losses[-1]}; lower learning_rate")
        if (step + 1) % 1000 == 0 or step + 1 == steps:
            print(f"step {step + 1}/{steps}: loss {np.mean(losses[-200:]):.4f}", flush=True)
    save(encoder, job["weights"])
    return {
        "passes": steps * flags["batch"] * method.passes / len(pixels),
        "steps": steps,
        "loss": [float(np.mean(part)) for part in (losses[:50], losses[-200:])],
        "train_seconds": time.monotonic() - began,
        "train_cpu_seconds": time.process_time() - cpu,
    }


def endpoints(job: dict[str, Any]) -> dict[str, Any]:
    """Writes all endpoints of `images` (.npz: uint8 `pixels` [N, H, W, 3]) with `weights`."""
    flags = job["flags"]
    with np.load(job["images"]) as arrays:
        pixels = torch.from_numpy(arrays["pixels"]).permute(0, 3, 1, 2)
    encoder = load(Encoder(flags["width"], flags["blocks"]), job["weights"]).eval()
    with torch.inference_mode():
        parts = [encoder(part.float() / 255) for part in pixels.split(500)]
    found = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    shown = {n: v.permute(0, 2, 3, 1) if v.ndim == 4 else v for n, v in found.items()}
    np.savez(job["output"], **{name: value.numpy() for name, value in shown.items()})
    return {}


def augmented(job: dict[str, Any]) -> dict[str, Any]:
    """Writes `images` (.npz: `pixels`, and `uniforms` of the pipeline's augmentation) augmented."""
    with np.load(job["images"]) as arrays:
        pixels = torch.from_numpy(arrays["pixels"]).permute(0, 3, 1, 2)
        draws = torch.from_numpy(arrays["uniforms"])[:, :DRAWS]
    np.savez(job["output"], augmented=augment(pixels, draws, **job["flags"]).permute(0, 2, 3, 1))
    return {}


def main() -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    with open(sys.argv[2], encoding="utf-8") as file:
        job = json.load(file)
    found = {"train": train, "endpoints": endpoints, "augmented": augmented}[sys.argv[1]](job)
    found["versions"] = {
        "torch": torch.__version__,
        "lightly": lightly.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
    partial = f"{job['report']}.partial"
    with open(partial, "w", encoding="utf-8") as file:
        json.dump(found, file)
    os.replace(partial, job["report"])


if __name__ == "__main__":
    main()
