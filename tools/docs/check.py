"""Checks that the commands in the documents still work.

python -m tools.docs.check          # every command: do its files and flags exist?
python -m tools.docs.check --run    # and runs the blocks that are marked for it

A block below `<!-- run -->` is run, in the order of the document, in a temporary folder with
`photos/` (generated images, also as `PHOTOS/`), `LABELLED/` (with a sub-folder per class),
`photo.jpg`, `saved_model/` (an untrained encoder), `flags/` and `tools/`.
Below `<!-- run with: --final_epochs=1 … -->` each command also gets those of the flags that it
has, and `mgta_tf.pretrain` gets all: the document's commands on a smaller scale. Below
`<!-- run if: PROGRAM -->` a block is run where the program is installed.
Blocks without a mark are counted. A block below `<!-- from: FILE -->` must be part of that file,
and `FILE.py: name` in a text must be defined there. A notebook is executed as a whole.
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

from PIL import Image

from mgta_tf import cli
from mgta_tf import config as config_lib
from mgta_tf.config import flag
from mgta_tf.data.shapes import SHAPES, label_of, single_object
from mgta_tf.errors import UserError, quantity
from tools.docs import notebook

ROOT = str(pathlib.Path(__file__).resolve().parents[2])
FENCE = re.compile(
    r"(?:^<!-- ((?:run|from).*?) -->\n)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL
)
COMMAND = re.compile(r"python -m ((?:mgta_tf|tools)\.[\w.]+)(?: (?:.*\\\n)*[^#\n]*)?")
PHOTOS = 160
# Before the code of a Python block; {} are the keywords that `pretrain` gets as well.
PREAMBLE = """import functools, sys; sys.path.insert(0, '.'); import mgta_tf
mgta_tf.pretrain = functools.partial(mgta_tf.pretrain, **{})
"""


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

    @property
    def is_run(self) -> bool:
        """Whether `--run` runs it."""
        return self.mark.startswith("run")

    @property
    def could_run(self) -> bool:
        """Whether it has code that is not quoted from a file."""
        return self.language in ("", "bash", "python") and not self.mark.startswith("from")


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
    print(coverage(names), flush=True)


def coverage(names: list[str]) -> str:
    """How many blocks `--run` runs, and which it does not."""
    blocks = [b for name in names if name.endswith(".md") for b in blocks_of(name) if b.could_run]
    others = [block.place for block in blocks if not block.is_run]
    line = f"--run runs {len(blocks) - len(others)} of {quantity(len(blocks), 'block')} of code"
    return f"{line}; {len(others)} not run: {', '.join(others)}" if others else line


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
        path = path_of(words[2])
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


def path_of(module: str) -> str:
    """The file that `python -m MODULE` runs, relative to the repository."""
    path = module.replace(".", "/")
    package = os.path.isdir(os.path.join(ROOT, path))
    return f"{path}/__main__.py" if package else f"{path}.py"


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
    blocks = [block for block in blocks_of(name) if block.is_run]
    if not blocks:
        return
    with tempfile.TemporaryDirectory() as folder:
        prepare(folder)
        for block in blocks:
            run_block(block, folder)


def run_block(block: Block, folder: str) -> None:
    """Runs a block in a folder, unless it needs a program that is not installed.

    Raises:
      UserError: it fails, or no command has a flag of its mark.
    """
    print(f"{block.place}: {block.mark}", flush=True)
    kind, _, more = block.mark.partition(": ")
    if kind == "run if" and not shutil.which(more):
        print(f"{block.place}: not run, {more} is not installed", flush=True)
        return
    flags = more.split() if kind == "run with" else []
    if block.language == "python":
        keywords = dict(flag.lstrip("-").split("=") for flag in flags)
        command = [sys.executable, "-c", PREAMBLE.format(keywords) + block.text]
    else:
        command = ["bash", "-euo", "pipefail", "-c", with_flags(block, flags)]
    path = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]
    environment = {**os.environ, "PYTHONPATH": ROOT, "PATH": path}
    if subprocess.run(command, cwd=folder, env=environment, check=False).returncode:
        raise UserError(f"{block.place}: fails as it stands in the document")


def with_flags(block: Block, flags: list[str]) -> str:
    """The text of a block of commands, each with those of the flags that it has.

    Raises:
      UserError: no command has one of the flags.
    """
    used = set()

    def extended(found: re.Match[str]) -> str:
        known = flags_of(path_of(found[1]))
        own = [flag for flag in flags if _known(flag, known)]
        used.update(own)
        words = found[0].rstrip()
        return " ".join([words, *own]) + found[0][len(words) :]

    text = COMMAND.sub(extended, block.text)
    if unused := [flag for flag in flags if flag not in used]:
        raise UserError(f"{block.place}: no command has {', '.join(unused)}")
    return text


def prepare(folder: str) -> None:
    """Creates the files that documents assume in a folder."""
    for name in ("flags", "tools"):
        os.symlink(os.path.join(ROOT, name), os.path.join(folder, name))
    photos, labelled = (os.path.join(folder, name) for name in ("photos", "LABELLED"))
    os.mkdir(photos)
    os.symlink(photos, os.path.join(folder, "PHOTOS"))
    for number in range(PHOTOS):
        of_class = os.path.join(labelled, SHAPES[label_of(number, seed=0)])
        os.makedirs(of_class, exist_ok=True)
        image = Image.fromarray(single_object(number, seed=0))
        image.save(os.path.join(photos, f"{number:03d}.png"))
        image.save(os.path.join(of_class, f"{number:03d}.png"))
    image.save(os.path.join(folder, "photo.jpg"))
    from mgta_tf.models import artifact
    from mgta_tf.models.autoencoder import build_autoencoder
    from mgta_tf.models.encoder import ModelConfig

    model = ModelConfig(width=0.125, blocks=(1, 1, 1, 1), decoder="mirror")
    facts = artifact.Facts(model, "unit", 64, "untrained")
    artifact.save(build_autoencoder(model), facts, os.path.join(folder, "saved_model"))


if __name__ == "__main__":
    cli.run(main, DocsConfig)
