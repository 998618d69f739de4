"""Pictures of detections: boxes on a photograph, and the best and worst images (Figure 2)."""

from __future__ import annotations

import dataclasses

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mgta_tf.evaluation import boxes
from mgta_tf.evaluation.boxes import RIGHT, WRONG, Detections, Objects

GREEN, RED, ORANGE = (0, 170, 60), (220, 30, 30), (255, 150, 0)
PANEL = 240  # pixels of the longer side of a panel of the sheet
MARGIN = 6


@dataclasses.dataclass(frozen=True)
class Box:
    """A box in VOC's pixels, with its caption."""

    corners: tuple[float, float, float, float]
    text: str
    color: tuple[int, int, int]


def draw(image: np.ndarray, items: list[Box]) -> np.ndarray:
    """uint8 [H, W, 3] with boxes on it, the first of them on top."""
    picture = Image.fromarray(image)
    pen, thickness = ImageDraw.Draw(picture), max(1, round(max(image.shape) / 250))
    font = ImageFont.load_default(size=max(10, max(image.shape) / 35))
    for item in reversed(items):
        xmin, ymin, xmax, ymax = (round(v) for v in item.corners)
        corners = (xmin - 1, ymin - 1, max(xmin, xmax) - 1, max(ymin, ymax) - 1)
        pen.rectangle(corners, outline=item.color, width=thickness)
        if item.text:
            _, _, width, height = pen.textbbox((0, 0), item.text, font=font)
            x = max(0, min(corners[0], picture.width - width - 2))
            y = max(0, min(corners[1], picture.height - height - 2))
            pen.rectangle((x, y, x + width + 1, y + height + 1), fill=item.color)
            pen.text((x + 1, y + 1), item.text, fill="white", font=font)
    return np.asarray(picture)


def of_image(found: Detections, classes: tuple[str, ...], min_score: float) -> list[Box]:
    """The boxes detected in one photograph, highest score first."""
    order = [n for n in np.argsort(-found.score, kind="stable") if found.score[n] >= min_score]
    return [
        Box(tuple(found.box[n]), f"{classes[found.label[n]]} {found.score[n]:.2f}", GREEN)
        for n in order
    ]


@dataclasses.dataclass(frozen=True)
class Verdict:
    """An image evaluated at a score threshold: right boxes, wrong boxes, missed objects."""

    image: int
    right: int
    wrong: int
    missed: int
    items: list[Box]

    @property
    def f1(self) -> float:
        return 2 * self.right / max(2 * self.right + self.wrong + self.missed, 1)


def evaluate(
    found: Detections, there: Objects, classes: tuple[str, ...], min_score: float
) -> list[Verdict]:
    """All images with an object or a box, the best first.

    Right boxes are green, wrong boxes red, missed objects orange.
    """
    kept = found.score >= min_score
    found = Detections(
        **{field.name: getattr(found, field.name)[kept] for field in dataclasses.fields(found)}
    )
    outcome, hit = boxes.match(found, there)
    verdicts = []
    for image in np.union1d(found.image, there.image).astype(int):
        mine = np.flatnonzero(found.image == image)
        mine = mine[np.argsort(-found.score[mine], kind="stable")]
        missed = np.flatnonzero((there.image == image) & ~there.difficult)
        missed = np.setdiff1d(missed, hit[mine])
        items = [
            Box(
                tuple(found.box[n]),
                f"{classes[found.label[n]]} {found.score[n]:.2f}",
                RED if outcome[n] == WRONG else GREEN,
            )
            for n in mine
        ]
        items += [Box(tuple(there.box[n]), classes[there.label[n]], ORANGE) for n in missed]
        right, wrong = (int(np.sum(outcome[mine] == kind)) for kind in (RIGHT, WRONG))
        verdicts.append(Verdict(int(image), right, wrong, len(missed), items))
    return sorted(verdicts, key=lambda v: (-v.f1, -v.right, v.wrong + v.missed, v.image))


def sheet(best: list[np.ndarray], worst: list[np.ndarray]) -> np.ndarray:
    """Two rows of pictures, uint8 [.., .., 3]."""
    step = PANEL + MARGIN
    columns = max(len(best), len(worst), 1)
    canvas = Image.new("RGB", (columns * step + MARGIN, 2 * step + MARGIN), "white")
    for row, pictures in enumerate((best, worst)):
        for column, picture in enumerate(pictures):
            panel = Image.fromarray(picture)
            scale = PANEL / max(panel.size)
            panel = panel.resize([max(1, round(side * scale)) for side in panel.size])
            canvas.paste(panel, (MARGIN + column * step, MARGIN + row * step))
    return np.asarray(canvas)
