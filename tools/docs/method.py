"""Draws the figure of the method for the README as SVG.

python -m tools.docs.method --output=docs/pictures/method.svg
"""

from __future__ import annotations

import dataclasses

from mgta_tf import cli
from mgta_tf.config import flag
from mgta_tf.errors import UserError
from mgta_tf.runtime.files import write_text

WIDTH, HEIGHT = 860, 330
BLUE, ORANGE, GRAY, INK = "#0b84c6", "#d96c1e", "#8a8f98", "#24292f"


@dataclasses.dataclass(frozen=True)
class MethodConfig:
    """The figure."""

    output: str = flag("", "SVG file to write.")


def main(config: MethodConfig) -> None:
    if not config.output:
        raise UserError("--output is required: an SVG file to write")
    write_text(config.output, drawing())
    print(config.output)


def drawing() -> str:
    """The SVG: stage 1 on the left; then N1 above and N2 below, each labelling for the other."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="13" role="img" aria-label="Two auto-encoders, N1 and '
        "N2, start from one; each trains on its half of the images with the pseudo labels that "
        'k-means makes of the features of the other">',
        "<defs>",
        *(_head(name, color) for name, color in (("b", BLUE), ("o", ORANGE), ("g", GRAY))),
        "</defs>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        _text(85, 28, "Stage 1", weight="bold"),
        _text(85, 46, "reconstruction, all images"),
        _box(25, 140, 120, 50, GRAY, "IAE"),
        _arrow("M145,155 L215,95", "g"),
        _arrow("M145,175 L215,235", "g"),
        _text(158, 212, "copy"),
        _text(525, 28, "Stage 2, every round", weight="bold"),
        _text(525, 46, "reconstruction + λ₁ · triplet loss on P×K batches"),
        *_net(75, BLUE, "N1", "D1", "D2"),
        *_net(215, ORANGE, "N2", "D2", "D1"),
        _arrow("M638,95 C720,95 760,130 760,165 S740,300 560,300 L300,300 L300,262", "b"),
        _arrow("M638,235 C700,235 715,205 715,165 S690,140 560,140 L300,140 L300,122", "o"),
        _text(440, 318, "labels of D2 by N1", color=BLUE),
        _text(440, 158, "labels of D1 by N2", color=ORANGE),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _net(top: int, color: str, name: str, half: str, other: str) -> list[str]:
    """The row of one net: its auto-encoder, the features of the other half, and k-means."""
    middle = top + 22
    return [
        _box(218, top, 165, 45, color, f"{name} trains on {half}"),
        _arrow(f"M383,{middle} L405,{middle}", "b" if color == BLUE else "o"),
        _box(408, top, 110, 45, color, f"features of {other}"),
        _arrow(f"M518,{middle} L533,{middle}", "b" if color == BLUE else "o"),
        _box(536, top, 100, 45, color, "k-means"),
    ]


def _head(name: str, color: str) -> str:
    return (
        f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        f'markerHeight="7" orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="{color}"/></marker>'
    )


def _box(x: int, y: int, width: int, height: int, color: str, text: str) -> str:
    return (
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" fill="{color}" '
        f'fill-opacity="0.12" stroke="{color}" stroke-width="1.5"/>'
        + _text(x + width // 2, y + height // 2 + 5, text)
    )


def _arrow(path: str, head: str) -> str:
    color = {"b": BLUE, "o": ORANGE, "g": GRAY}[head]
    return (
        f'<path d="{path}" fill="none" stroke="{color}" stroke-width="1.8" '
        f'marker-end="url(#{head})"/>'
    )


def _text(x: int, y: int, text: str, weight: str = "normal", color: str = INK) -> str:
    return (
        f'<text x="{x}" y="{y}" text-anchor="middle" font-weight="{weight}" fill="{color}">'
        f"{text}</text>"
    )


if __name__ == "__main__":
    cli.run(main, MethodConfig)
