"""Full and read-only disks, images that disappear, damaged checkpoints."""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator

from PIL import Image

from mgta_tf.data import shapes
from mgta_tf.errors import UserError
from tools.faults.suite import (
    RUN,
    Row,
    Suite,
    begin,
    bytes_lost,
    end,
    ending,
    finish,
    positions,
    stage_of,
    wait_for_checkpoints,
)


def _mounted(suite: Suite, name: str, options: str) -> str:
    """Mounts a small file system.

    Raises:
      UserError: this user may not mount one.
    """
    path = suite.folder(name)
    os.makedirs(path)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", path], capture_output=True, check=False
    )
    if done.returncode:
        raise UserError("only root may mount a small disk; run this case as root")
    return path


def disk_full(suite: Suite) -> Row:
    """A disk fills up at some file: one line, status 1; with more space the run resumes."""
    expected = suite.undisturbed("undisturbed_run", RUN)
    survived, lost, tries, lines = 0, 0, suite.tries(8), []
    for number in range(tries):
        size = 1200 + 350 * number + suite.random.randrange(300)
        disk = _mounted(suite, "full", f"size={size}k")
        try:
            workdir = os.path.join(disk, "run")
            status, line = end(begin(workdir, RUN))
            lines.append(f"{size} kB: {line}")
            subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
            finish(workdir, RUN)
            difference = bytes_lost(expected, ending(workdir))
            clean = status == 1 and "mgta_tf: error:" in line and "No space left" in line
            survived, lost = survived + (clean and not difference), lost + difference
        finally:
            subprocess.run(["umount", "--lazy", disk], check=False)
    return {"tries": tries, "survived": survived, "bytes_lost": lost, "lines": lines}


def read_only(suite: Suite) -> Row:
    """The disk is read-only when a run is resumed."""
    expected = suite.undisturbed("undisturbed_run", RUN)
    disk = _mounted(suite, "read_only", "size=64m")
    try:
        workdir = os.path.join(disk, "run")
        process = begin(workdir, RUN)
        wait_for_checkpoints(workdir, 3, process)
        process.kill()
        end(process)
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        status, line = end(begin(workdir, RUN))
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        finish(workdir, RUN)
        lost = bytes_lost(expected, ending(workdir))
    finally:
        subprocess.run(["umount", "--lazy", disk], check=False)
    clean = status == 1 and "Read-only file system" in line
    return {"tries": 1, "survived": int(clean and not lost), "bytes_lost": lost, "lines": [line]}


def vanished_data(suite: Suite) -> Row:
    """The folder of the images disappears in the middle of a run, and is restored."""
    data = suite.folder("photos")
    os.makedirs(data)
    for number in range(96):
        picture = Image.fromarray(shapes.single_object(number, 0))
        picture.save(os.path.join(data, f"{number:03d}.png"))
    flags = {**RUN, "data_source": "", "data_dir": data, "cache_budget_mb": 0}
    expected = suite.undisturbed("undisturbed_photos", flags)
    workdir = suite.folder("vanished")
    process = begin(workdir, flags)
    wait_for_checkpoints(workdir, 2, process)
    os.rename(data, f"{data}_away")
    status, line = end(process)
    again, line_again = end(begin(workdir, flags))
    os.rename(f"{data}_away", data)
    finish(workdir, flags)
    lost = bytes_lost(expected, ending(workdir))
    clean = status == again == 1 and "was readable" in line and "no such folder" in line_again
    return {"tries": 1, "survived": int(clean and not lost), "bytes_lost": lost, "lines": [line]}


def _damages(suite: Suite, workdir: str) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yields ways to damage the files of a killed run: (description, function)."""
    newest = max(positions(workdir))[0]
    files = [
        f"checkpoints/ckpt-{newest}.{part}" for part in ("index", "data-00000-of-00001", "json")
    ]
    files += ["checkpoints/checkpoint", "labels/*.npz"]

    def change(pattern: str, how: str) -> None:
        for path in glob.glob(os.path.join(workdir, pattern)):
            with open(path, "rb") as file:
                content = bytearray(file.read())
            if how == "flipped":
                content[suite.random.randrange(len(content))] ^= 0xFF
            with open(path, "wb") as file:
                file.write({"emptied": b"", "cut": content[: len(content) // 2]}.get(how, content))

    for pattern in files:
        for how in ("emptied", "cut", "flipped"):
            yield f"{pattern} {how}", lambda p=pattern, h=how: change(p, h)  # type: ignore[misc]


def damaged_checkpoints(suite: Suite) -> Row:
    """Truncates, empties or alters a file of a killed run: it resumes from an older checkpoint."""
    expected = suite.undisturbed("undisturbed_run", RUN)
    killed = suite.folder("killed")
    process = begin(killed, RUN)
    while stage_of(killed, RUN) != "mutual":
        time.sleep(0.02)
    wait_for_checkpoints(killed, 4, process)
    process.kill()
    end(process)
    survived, lost, failed = 0, 0, []
    workdir = os.path.join(suite.scratch, "damaged")
    ways = list(_damages(suite, workdir.replace("damaged", "killed")))
    ways = suite.random.sample(ways, 2) if suite.short else ways
    for number, (what, _) in enumerate(ways):
        suite.folder("damaged")
        shutil.copytree(killed, workdir)
        dict(_damages(suite, workdir))[ways[number][0]]()
        finish(workdir, RUN)
        if what.startswith("labels"):  # for the user only; a resumed run does not write them
            shutil.copytree(f"{killed}/labels", f"{workdir}/labels", dirs_exist_ok=True)
        difference = bytes_lost(expected, ending(workdir))
        survived, lost = survived + (not difference), lost + difference
        failed += [what] if difference else []
    return {"tries": len(ways), "survived": survived, "bytes_lost": lost, "failed": failed}
