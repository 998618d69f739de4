"""Checks that the commands in the documents still work.

python -m tools.docs.check          # every command: do its files and flags exist?
python -m tools.docs.check --run    # and runs the blocks that are marked for it

A block below `<!-- run -->` is run, in the order of the document, in a temporary folder with
`photos/` (generated images), `saved_model/` (an untrained encoder), `flags/` and `tools/`.
Below `<!-- run with: --rounds=1 … -->` its mgta_tf.train gets these flags as well: the command of
the document on a smaller scale; below `<!-- run if: PROGRAM -->` it is run where the program is
installed. A block below `<!-- from: FILE -->` must be part of that
file, and `FILE.py: name` in a text must be defined there. A notebook is executed as a whole.
"""

from __future__ import annotations

import dataclasses
import glob
import importlib
import itertools
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import numpy as np
from PIL import Image

from mgta_tf import cli
from mgta_tf import config as config_lib
from mgta_tf.config import flag
from mgta_tf.data.shapes import single_object
from mgta_tf.errors import UserError, quantity
from tools.docs import notebook

ROOT = str(pathlib.Path(__file__).resolve().parents[2])
FENCE = re.compile(
    r"(?:^<!-- ((?:run|from).*?) -->\n)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL
)
PHOTOS = 160
ENVIRONMENT = "import sys; sys.path.insert(0, '.'); import mgta_tf\n"


@dataclasses.dataclass(frozen=True)
class DocsConfig:
    """Checks."""

    run: bool = flag(False, "Execution of the marked code blocks, in addition to the checks.")
    only: str = flag("", "Path of a single document, such as docs/tutorial.md; empty checks all.")


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block: its document and line, its language, its text, and its mark for running."""

    place: str
    language: str
    text: str
    mark: str


def main(config: DocsConfig) -> None:
    names = [config.only] if config.only else documents()
    faults = []
    for name in names:
        blocks = blocks_of(name)
        commands = [c for b in blocks if b.language != "python" for c in commands_of(b)]
        faults += [fault for block, words in commands for fault in faults_of(block, words)]
        faults += [fault for block in blocks for fault in not_quoted(block)]
        faults += missing_names(name)
        found = quantity(len(blocks), "block"), quantity(len(commands), "command")
        print(f"{name}: {', '.join(found)}", flush=True)
    if faults:
        raise UserError("; ".join(faults))
    for name in names if config.run else []:
        run_document(name)


def documents() -> list[str]:
    """README.md, BUILD.md, CONTRIBUTING.md, docs/*.md and the notebooks beside them."""
    found = [glob.glob(os.path.join(ROOT, "docs", pattern)) for pattern in ("*.md", "*.ipynb")]
    return [
        "README.md",
        "BUILD.md",
        "CONTRIBUTING.md",
        *(os.path.relpath(path, ROOT) for path in sorted(itertools.chain(*found))),
    ]


def blocks_of(name: str) -> list[Block]:
    """The fenced blocks of a document."""
    with open(os.path.join(ROOT, name), encoding="utf-8") as file:
        text = file.read()
    return [
        Block(
            f"{name}:{text[: found.start(3)].count(chr(10)) + 1}",
            found[2],
            found[3],
            found[1] or "",
        )
        for found in FENCE.finditer(text)
    ]


# ------------------------------------------------------------------------------- Static checks


def commands_of(block: Block) -> list[tuple[Block, list[str]]]:
    """The command lines of a block, continued lines joined, comments dropped, as words."""
    lines = block.text.replace("\\\n", " ").splitlines()
    words = [re.sub(r"(^|\s)#.*", "", line).split() for line in lines]
    return [(block, line) for line in words if line]


def faults_of(block: Block, words: list[str]) -> list[str]:
    """Problems of a command: a module, file, target or flag that does not exist."""
    flags = [word for word in words if word.startswith("--")]
    if words[:2] == ["python", "-m"] and words[2].startswith(("mgta_tf.", "tools.")):
        path = words[2].replace(".", "/")
        package = os.path.isdir(os.path.join(ROOT, path))
        path = f"{path}/__main__.py" if package else f"{path}.py"
    elif words[0] == "python" and words[1].startswith("tools/"):
        path = words[1]
    elif words[0] == "make":
        with open(os.path.join(ROOT, "Makefile"), encoding="utf-8") as file:
            targets = re.findall(r"^([\w./-]+):", file.read(), re.MULTILINE)
        wanted = [word for word in words[1:] if "=" not in word]
        return [f"{block.place}: no target {word}" for word in wanted if word not in targets]
    else:
        return []
    if not os.path.isfile(os.path.join(ROOT, path)):
        return [f"{block.place}: no {path}"]
    known = flags_of(path)
    missing = [f"{block.place}: {path} has no {f}" for f in flags if not _known(f, known)]
    files = [f.partition("=")[2] for f in flags if f.startswith("--flagfile=flags/")]
    missing += [f"{block.place}: no {f}" for f in files if not os.path.isfile(f"{ROOT}/{f}")]
    return missing


def not_quoted(block: Block) -> list[str]:
    """Problems of a block that is marked as part of a file but differs from it."""
    kind, _, path = block.mark.partition(": ")
    if kind != "from":
        return []
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        code = "\n".join(line.strip() for line in file)
    quoted = "\n".join(line.strip() for line in block.text.splitlines())
    return [] if quoted in code else [f"{block.place}: differs from {path}"]


def missing_names(document: str) -> list[str]:
    """Files and names (`FILE.py: name, name`) in a document that do not exist."""
    with open(os.path.join(ROOT, document), encoding="utf-8") as file:
        found = re.findall(r"`((?:mgta_tf|tools)/[\w/]+\.py)(?:: ([\w., ]+))?`", file.read())
    faults = []
    for path, names in found:
        if not os.path.isfile(os.path.join(ROOT, path)):
            faults.append(f"{document}: no {path}")
            continue
        with open(os.path.join(ROOT, path), encoding="utf-8") as file:
            defined = re.findall(r"^ *(?:def|class) (\w+)", file.read(), re.MULTILINE)
        for name in re.findall(r"[\w.]+", names):
            if not set(name.split(".")) <= set(defined):
                faults.append(f"{document}: {path} has no {name}")
    return faults


def flags_of(path: str) -> set[str]:
    """The flags of a command, from the config class that it passes to `cli.run`.

    An entry point (tools/entry.py) has the flags of the module that it runs.
    """
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        text = file.read()
    runs = re.search(r"^    run\(\"([\w.]+)\"\)", text, re.MULTILINE)
    if runs:
        return flags_of(f"{runs[1].replace('.', '/')}.py")
    name = re.search(r"cli\.run\(main, (\w+)", text)
    if not name:
        return set()
    module = importlib.import_module(os.path.splitext(path)[0].replace("/", "."))
    fields = [f for _, group in config_lib.groups(getattr(module, name[1])) for f in group]
    return {field.name for field in fields} | {"flagfile", "help"}


def _known(word: str, known: set[str]) -> bool:
    name = word[2:].partition("=")[0]
    return name in known or (name.startswith("no") and name[2:] in known)


# --------------------------------------------------------------------------- Execution of blocks


def run_document(name: str) -> None:
    """Runs the marked blocks of a document.

    Raises:
      UserError: one fails.
    """
    if name.endswith(".ipynb"):
        with tempfile.TemporaryDirectory() as folder:
            os.environ["PYTHONPATH"] = ROOT  # of the kernel
            notebook.run(os.path.join(ROOT, name), folder)
        return
    blocks = [block for block in blocks_of(name) if block.mark.startswith("run")]
    if not blocks:
        return
    with tempfile.TemporaryDirectory() as folder:
        prepare(folder)
        for block in blocks:
            print(f"{block.place}: {block.mark}", flush=True)
            text, (kind, _, more) = block.text, block.mark.partition(": ")
            if kind == "run if" and not shutil.which(more):
                print(f"{block.place}: not run, {more} is not installed", flush=True)
                continue
            if kind == "run with":
                text = re.sub(r"(python -m mgta_tf\.train (?:.*\\\n)*.*)", rf"\1 {more}", text)
            command = ["bash", "-euo", "pipefail", "-c", text]
            if block.language == "python":
                command = [sys.executable, "-c", ENVIRONMENT + text]
            path = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]
            environment = {**os.environ, "PYTHONPATH": ROOT, "PATH": path}
            if subprocess.run(command, cwd=folder, env=environment, check=False).returncode:
                raise UserError(f"{block.place}: fails as it stands in the document")


def prepare(folder: str) -> None:
    """Creates the files that documents assume in a folder."""
    for name in ("flags", "tools"):
        os.symlink(os.path.join(ROOT, name), os.path.join(folder, name))
    os.mkdir(os.path.join(folder, "photos"))
    for number in range(PHOTOS):
        pixels = np.asarray(single_object(number, seed=0))
        Image.fromarray(pixels).save(os.path.join(folder, "photos", f"{number:03d}.png"))
    from mgta_tf.models import artifact
    from mgta_tf.models.autoencoder import build_autoencoder
    from mgta_tf.models.encoder import ModelConfig

    model = ModelConfig(width=0.125, blocks=(1, 1, 1, 1), decoder="mirror")
    facts = artifact.Facts(model, "unit", 64, "untrained")
    artifact.save(build_autoencoder(model), facts, os.path.join(folder, "saved_model"))


if __name__ == "__main__":
    cli.run(main, DocsConfig)
