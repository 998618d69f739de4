"""Breaks runs in every way that is known, and says what that cost.

  make faults               30 kills in each stage, and an hour of damaged files: about two hours
  make faults FORM=short    two kills in each stage, and two minutes of damaged files
  python tools/faults.py --only=kills,disk_full --output=faults.json

A run that was disturbed is resumed and ends; its weights, optimisers, labels and losses are then
compared with those of a run that was not. `survived` counts the tries after which all of them are
equal to the bit, `bytes lost` those that are not. `--output` is written after every case, and what
it holds already is not run again.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import glob
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf
from PIL import Image

from mgta_tf import cli, supervised, train
from mgta_tf import config as config_lib
from mgta_tf.config import flag, group
from mgta_tf.data import shapes
from mgta_tf.errors import UserError
from mgta_tf.runtime import files
from mgta_tf.runtime.files import write_json
from mgta_tf.training import guidance
from mgta_tf.training.config import TrainConfig
from tools.faults import readers as fuzz_readers
from tools.faults import two_workers

NET = {
    "image_size": 32,
    "width": 0.0625,
    "blocks": (1, 1, 1, 1),
    "optimizer": "sgd",  # its graph is built in half of the time of Adam's
    "clip_norm": 10.0,
    "deterministic": True,
}
RUN = {
    **NET,
    "data_source": "shapes",
    "shapes_count": 96,
    "iae_epochs": 6,
    "rounds": 3,
    "epochs_per_round": 2,
    "final_epochs": 6,
    "num_clusters": 6,
    "clusters_per_batch": 2,
    "images_per_cluster": 8,
    "log_every_steps": 4,
    "checkpoint_every_steps": 2,
}
SUPERVISED = {
    **NET,
    "data_source": "shapes",
    "shapes_count": 96,
    "epochs": 8,
    "batch_size": 16,
    "checkpoint_every_steps": 3,
}
HOSTS = {**RUN, "rounds": 1, "clusters_per_batch": 4, "images_per_cluster": 4}  # of two devices
PER_RUN = 10  # kills in each stage of a run
LIFE = 900.0  # seconds after which a process that should have ended counts as hung


@dataclasses.dataclass(frozen=True)
class FaultsConfig:
    """The fault suite."""

    output: str = flag("faults.json", "Where the table goes, as JSON.")
    form: str = flag("long", "How much of it.", choices=("short", "long"))
    only: str = flag("", "Names of cases, with commas between them; all of them if empty.")
    scratch: str = flag("", "Folder for the runs; a temporary one if empty.")
    seed: int = flag(0, "Of the moments and the damage.", minimum=0)


@dataclasses.dataclass(frozen=True)
class Command:
    """faults.py"""

    faults: FaultsConfig = group(FaultsConfig)


Row = dict[str, Any]  # tries, survived, bytes_lost, and what else there is to say
Rows = dict[str, Row]  # by name


@dataclasses.dataclass(frozen=True)
class Suite:
    """Where the runs lie, how much is done, what chance is left to, and the rows there are."""

    scratch: str
    short: bool
    random: random.Random
    before: Rows

    def tries(self, long: int, short: int = 1) -> int:
        return short if self.short else long

    def folder(self, name: str) -> str:
        """A new folder's path."""
        path = os.path.join(self.scratch, name)
        shutil.rmtree(path, ignore_errors=True)
        return path

    def undisturbed(self, name: str, flags: dict[str, Any]) -> dict[str, bytes]:
        """What a run of these flags ends with; it is run once."""
        path = os.path.join(self.scratch, name)
        if not os.path.exists(f"{path}.done"):
            finish(path, flags)
            with open(f"{path}.done", "w", encoding="ascii"):
                pass
        return ending(path)


# ------------------------------------------------------------------------------------------- Runs


def command(workdir: str, flags: dict[str, Any]) -> list[str]:
    """The command of a run, as a user types it."""
    module = "mgta_tf.supervised" if "epochs" in flags else "mgta_tf.train"
    values = {
        name: ",".join(map(str, value)) if isinstance(value, tuple) else value
        for name, value in {**flags, "workdir": workdir}.items()
    }
    return [sys.executable, "-m", module, *(f"--{name}={value}" for name, value in values.items())]


def begin(workdir: str, flags: dict[str, Any]) -> subprocess.Popen[str]:
    return _start(command(workdir, flags))


def begin_hosts(words: list[str]) -> list[subprocess.Popen[str]]:
    """The same command on two hosts of 127.0.0.1; the first is the chief."""
    return [_start(words, TF_CONFIG=each) for each in two_workers.tf_configs()]


def _start(words: list[str], **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **environment},
    )


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Waits for a run: its exit status, and the last line that it said."""
    try:
        said = process.communicate(timeout=LIFE)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return -1, "hung"
    return process.returncode, (said.strip().splitlines() or [""])[-1]


def finish(workdir: str, flags: dict[str, Any]) -> None:
    """Runs, or resumes, to the end."""
    status, said = end(begin(workdir, flags))
    if status:
        raise UserError(f"{workdir}: ended with {status}: {said}")


def _in_fork(workdir: str, flags: dict[str, Any]) -> None:
    """The same in a process that has imported everything already, which saves most of its time."""
    silence = os.open(f"{workdir}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    values = {**flags, "workdir": workdir}
    if "epochs" in flags:
        supervised.main(config_lib.from_dict(supervised.SupervisedConfig, values))
    else:
        train.main(config_lib.from_dict(TrainConfig, values))


def positions(workdir: str) -> list[tuple[int, int, int]]:
    """(number, turn, step) of the checkpoints, oldest first."""
    found = []
    for path in glob.glob(os.path.join(workdir, "checkpoints", "ckpt-*.json")):
        try:
            with open(path, encoding="utf-8") as file:
                about = json.load(file)
        except (OSError, ValueError):  # deleted, or damaged by us
            continue
        number = int(os.path.basename(path)[len("ckpt-") : -len(".json")])
        found.append((number, about["turn"], about["step"]))
    return sorted(found)


def wait_for_checkpoints(workdir: str, count: int, process: subprocess.Popen[str]) -> bool:
    """Waits until `count` more checkpoints have been written; False if the run ends before."""
    first = max([0, *(number for number, _, _ in positions(workdir))])
    while max([0, *(number for number, _, _ in positions(workdir))]) < first + count:
        if process.poll() is not None:
            return False
        time.sleep(0.02)
    return True


def ending(workdir: str) -> dict[str, bytes]:
    """Everything that a run ends with, by name: tensors, labels, and the rows of its summary."""
    found: dict[str, bytes] = {}
    paths = [tf.train.latest_checkpoint(os.path.join(workdir, "checkpoints"))]
    paths += [os.path.join(workdir, "checkpoints", name) for name in ("iae", "supervised")]
    for path in paths:
        if not os.path.exists(f"{path}.index"):
            continue
        reader = tf.train.load_checkpoint(path)
        for name, dtype in reader.get_variable_to_dtype_map().items():
            if dtype != tf.string:  # the position has seconds in it, and the graph object ids
                key = f"{os.path.basename(path).partition('-')[0]}/{name}"
                found[key] = reader.get_tensor(name).tobytes()
    for path in glob.glob(os.path.join(workdir, "labels", "*.npz")):
        for name, values in files.arrays(path).items():
            found[f"{os.path.basename(path)}/{name}"] = values.tobytes()
    with open(os.path.join(workdir, "summary.json"), encoding="utf-8") as file:
        summary = json.load(file)
    for number, stage in enumerate(summary["stages"]):
        found[f"stage {number}"] = json.dumps(_without_clocks(stage), sort_keys=True).encode()
    return found


def _without_clocks(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    unequal = ("seconds", "label_seconds", "show_seconds", "peak_memory_mb")
    return {key: _without_clocks(item) for key, item in value.items() if key not in unequal}


def bytes_lost(one: dict[str, bytes], other: dict[str, bytes]) -> int:
    """Bytes of values in which two endings differ."""
    names = one.keys() | other.keys()
    pairs = ((one.get(name, b""), other.get(name, b"")) for name in names)
    return sum(max(len(a), len(b)) for a, b in pairs if a != b)


def checksum(values: dict[str, bytes]) -> str:
    whole = hashlib.sha256()
    for name in sorted(values):
        whole.update(name.encode() + values[name])
    return whole.hexdigest()[:16]


# ------------------------------------------------------------------------------------------ Kills


def kills(suite: Suite, stages: tuple[str, ...]) -> Iterator[Rows]:
    """SIGKILL at random moments of each stage: starting, tracing, in a step, in a GLP, saving.

    A run is killed up to PER_RUN times in each stage, then ends and is compared. Gives the rows
    after every run, and goes on from the rows of an earlier call.
    """
    supervised_only = stages == ("supervised",)
    flags = SUPERVISED if supervised_only else RUN
    expected = suite.undisturbed("quiet_supervised" if supervised_only else "quiet_run", flags)
    wanted = suite.tries(30, 2)
    nothing = {"tries": 0, "survived": 0, "bytes_lost": 0, "runs": 0}
    rows = {f"kills_{s}": {**nothing, **suite.before.get(f"kills_{s}", {})} for s in stages}
    while any(row["tries"] < wanted for row in rows.values()):
        left = {s: min(PER_RUN, wanted - rows[f"kills_{s}"]["tries"]) for s in stages}
        workdir = suite.folder("killed_supervised" if supervised_only else "killed_run")
        counts = _killed_run(suite, workdir, flags, left)
        difference = bytes_lost(expected, ending(workdir))
        for stage, count in counts.items():
            row = rows[f"kills_{stage}"]
            row["tries"] += count
            row["survived"] += 0 if difference else count
            row["bytes_lost"] += difference
            row["runs"] += 1
            row["checksums"] = [checksum(expected), checksum(ending(workdir))]
        yield rows


def _killed_run(
    suite: Suite, workdir: str, flags: dict[str, Any], left: dict[str, int]
) -> dict[str, int]:
    """A run that is killed up to so many times in each stage, and then ends: the kills."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mgta_tf.train", "mgta_tf.supervised", "tools.faults.run"])
    counts = dict.fromkeys(left, 0)
    while True:
        process = context.Process(target=_in_fork, args=(workdir, flags))
        process.start()
        while process.is_alive():
            stage = _stage(workdir, flags)
            if counts.get(stage, 0) < left.get(stage, 0):
                _random_moment(suite, workdir, process)
                stage = _stage(workdir, flags)
                if process.is_alive() and counts.get(stage, 0) < left.get(stage, 0):
                    process.kill()
                    counts[stage] += 1
                    break
            process.join(0.02)
        process.join()
        if process.exitcode == 0:
            return counts
        if process.exitcode != -signal.SIGKILL:
            raise UserError(f"{workdir}: ended with {process.exitcode}; see {workdir}.log")


def _random_moment(suite: Suite, workdir: str, process: Any) -> None:
    """Waits for up to three checkpoints and a little more; or not even for the first step."""
    newest = max([0, *(number for number, _, _ in positions(workdir))])
    more = suite.random.choice((0, 1, 1, 2, 3))
    while more and process.is_alive():
        if max([0, *(number for number, _, _ in positions(workdir))]) >= newest + more:
            break
        time.sleep(0.005)
    process.join(suite.random.uniform(0, 0.4 if more else 12.0))


def _stage(workdir: str, flags: dict[str, Any]) -> str:
    """In which stage a run is, by its newest checkpoint."""
    if "epochs" in flags:
        return "supervised"
    config = config_lib.from_dict(guidance.GuidanceConfig, flags)
    schedule = list(guidance.turns(config))
    turn = max([(0, 0, 0), *positions(workdir)])[1]
    return schedule[turn].stage if turn < len(schedule) else "done"


# ---------------------------------------------------------------------------------------- Signals


def signals(suite: Suite) -> Row:
    """SIGTERM and SIGINT in a step: status 143 and 130, saved, and the end is the same."""
    expected = suite.undisturbed("quiet_run", RUN)
    flags = {**RUN, "checkpoint_every_steps": 0}  # what is saved, the signal has saved
    survived, lost, tries = 0, 0, suite.tries(6, 2)
    for number in range(tries):
        workdir = suite.folder("signals")
        sent, status = ((signal.SIGTERM, 143), (signal.SIGINT, 130))[number % 2]
        process = begin(workdir, flags)
        wait_for_checkpoints(workdir, 1 + number // 2, process)
        time.sleep(suite.random.uniform(0, 1.0))
        process.send_signal(sent)
        found, _ = end(process)
        finish(workdir, flags)
        difference = bytes_lost(expected, ending(workdir))
        survived, lost = survived + (found == status and not difference), lost + difference
    return {"tries": tries, "survived": survived, "bytes_lost": lost}


def signal_to_one_host(suite: Suite) -> Row:
    """Of two hosts one gets SIGTERM or SIGINT: both leave; started again, they end the same."""
    flags = {**HOSTS, "checkpoint_every_steps": 0}  # what is saved, the signal has saved
    quiet = suite.folder("quiet_hosts")
    _end_hosts(begin_hosts(command(quiet, flags)))
    survived, lost, tries = 0, 0, suite.tries(4)
    for number in range(tries):
        workdir = suite.folder("hosts")
        sent, status = ((signal.SIGTERM, 143), (signal.SIGINT, 130))[number // 2]
        processes = begin_hosts(command(workdir, flags))
        wait_for_checkpoints(workdir, 1 + number // 2, processes[0])
        time.sleep(suite.random.uniform(0, 1.0))
        processes[number % 2].send_signal(sent)
        found = _end_hosts(processes)
        resumed = _end_hosts(begin_hosts(command(workdir, flags)))
        difference = bytes_lost(ending(quiet), ending(workdir))
        right = found == [status, status] and resumed == [0, 0] and not difference
        survived, lost = survived + right, lost + difference
    return {"tries": tries, "survived": survived, "bytes_lost": lost}


def _end_hosts(processes: list[subprocess.Popen[str]]) -> list[int]:
    """Their exit statuses."""
    with concurrent.futures.ThreadPoolExecutor() as pool:  # neither waits for the other's pipe
        return [status for status, _ in pool.map(end, processes)]


def second_interrupt(suite: Suite) -> Row:
    """Two SIGINT, at once, while TensorFlow builds a graph: gone within two seconds.

    With status 130, or of the signal itself, which to a shell is 130, too: the second may come when
    Python, already leaving, has put its own handlers away.
    """
    survived, tries = 0, suite.tries(3)
    for _ in range(tries):
        workdir = suite.folder("interrupts")
        process = begin(workdir, RUN)
        while not os.path.exists(os.path.join(workdir, "skipped.txt")):
            time.sleep(0.02)
        time.sleep(suite.random.uniform(0, 3.0))
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        status, _ = end(process)
        survived += status in (130, -signal.SIGINT) and time.monotonic() - began < 2.0
    return {"tries": tries, "survived": survived, "bytes_lost": 0}


def two_owners(suite: Suite) -> Row:
    """A second run is refused while the first lives, and takes over when it has been killed."""
    expected = suite.undisturbed("quiet_run", RUN)
    workdir = suite.folder("owners")
    first = begin(workdir, RUN)
    wait_for_checkpoints(workdir, 1, first)
    status, said = end(begin(workdir, RUN))
    refused = status == 1 and f"process {first.pid} on" in said
    first.kill()
    end(first)
    finish(workdir, RUN)
    lost = bytes_lost(expected, ending(workdir))
    return {"tries": 1, "survived": int(refused and not lost), "bytes_lost": lost}


# ------------------------------------------------------------------------------- Disks and folders


def _mounted(suite: Suite, name: str, options: str) -> str:
    """A small file system of its own.

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
    """A disk that fills up at some file: one line, status 1; with more room the run goes on."""
    expected = suite.undisturbed("quiet_run", RUN)
    survived, lost, tries, lines = 0, 0, suite.tries(8), []
    for number in range(tries):
        size = 1200 + 350 * number + suite.random.randrange(300)
        disk = _mounted(suite, "full", f"size={size}k")
        try:
            workdir = os.path.join(disk, "run")
            status, said = end(begin(workdir, RUN))
            lines.append(f"{size} kB: {said}")
            subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
            finish(workdir, RUN)
            difference = bytes_lost(expected, ending(workdir))
            clean = status == 1 and "mgta_tf: error:" in said and "No space left" in said
            survived, lost = survived + (clean and not difference), lost + difference
        finally:
            subprocess.run(["umount", "--lazy", disk], check=False)
    return {"tries": tries, "survived": survived, "bytes_lost": lost, "lines": lines}


def read_only(suite: Suite) -> Row:
    """A disk that becomes read-only between two lives of a run."""
    expected = suite.undisturbed("quiet_run", RUN)
    disk = _mounted(suite, "read_only", "size=64m")
    try:
        workdir = os.path.join(disk, "run")
        process = begin(workdir, RUN)
        wait_for_checkpoints(workdir, 3, process)
        process.kill()
        end(process)
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        status, said = end(begin(workdir, RUN))
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        finish(workdir, RUN)
        lost = bytes_lost(expected, ending(workdir))
    finally:
        subprocess.run(["umount", "--lazy", disk], check=False)
    clean = status == 1 and "Read-only file system" in said
    return {"tries": 1, "survived": int(clean and not lost), "bytes_lost": lost, "lines": [said]}


def vanished_data(suite: Suite) -> Row:
    """The folder of the images goes away in the middle of a run, and comes back."""
    data = suite.folder("photos")
    os.makedirs(data)
    for number in range(96):
        picture = Image.fromarray(shapes.single_object(number, 0))
        picture.save(os.path.join(data, f"{number:03d}.png"))
    flags = {**RUN, "data_source": "", "data_dir": data, "cache_budget_mb": 0}
    expected = suite.undisturbed("quiet_photos", flags)
    workdir = suite.folder("vanished")
    process = begin(workdir, flags)
    wait_for_checkpoints(workdir, 2, process)
    os.rename(data, f"{data}_away")
    status, said = end(process)
    again, said_again = end(begin(workdir, flags))
    os.rename(f"{data}_away", data)
    finish(workdir, flags)
    lost = bytes_lost(expected, ending(workdir))
    clean = status == again == 1 and "was readable" in said and "no such folder" in said_again
    return {"tries": 1, "survived": int(clean and not lost), "bytes_lost": lost, "lines": [said]}


# ----------------------------------------------------------------------------------------- Damage


def _damages(suite: Suite, workdir: str) -> Iterator[tuple[str, Callable[[], None]]]:
    """Ways to damage what a killed run has left: what is damaged, and what does it."""
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
    """Any file of a killed run cut, emptied or altered: it goes on from the one before."""
    expected = suite.undisturbed("quiet_run", RUN)
    killed = suite.folder("killed")
    process = begin(killed, RUN)
    while _stage(killed, RUN) != "mutual":
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
        if what.startswith("labels"):  # which are for the user; a run does not make them twice
            shutil.copytree(f"{killed}/labels", f"{workdir}/labels", dirs_exist_ok=True)
        difference = bytes_lost(expected, ending(workdir))
        survived, lost = survived + (not difference), lost + difference
        failed += [what] if difference else []
    return {"tries": len(ways), "survived": survived, "bytes_lost": lost, "failed": failed}


# ----------------------------------------------------------------------------------- Long and many


def memory(suite: Suite) -> Row:
    """Resident memory over 40 alternations, or 10: how much it grows after the second."""
    rounds = suite.tries(40, 10)
    flags = {**RUN, "iae_epochs": 1, "rounds": rounds, "epochs_per_round": 1, "final_epochs": 0}
    flags["checkpoint_every_steps"] = 0
    workdir = suite.folder("memory")
    process, resident = begin(workdir, flags), {}
    while process.poll() is None:
        resident[max([(0, 0, 0), *positions(workdir)])[1]] = _resident_kb(process.pid)
        time.sleep(0.1)
    end(process)
    first, last = 1 + 4 * 2, 4 * rounds  # turns: the IAE, then GLP, TMP, GLP, TMP a round
    growth = resident[last] / resident[first] - 1
    return {
        "tries": rounds,
        "survived": rounds if growth < 0.02 else 0,
        "bytes_lost": 0,
        "growth": growth,
        "resident_mb": [
            round(resident[turn] / 1024, 1) for turn in sorted(resident) if turn % 4 == 1
        ],
    }


def _resident_kb(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))
    except (OSError, StopIteration):  # it has just ended
        return 0


def damaged_files(suite: Suite, reader: str) -> Row:
    """Damaged files of one kind: executions, and how many of them crashed or hung."""
    seconds = suite.tries(3600, 120) / len(fuzz_readers.READERS)
    folder = os.path.join(suite.scratch, "fuzz")
    found = fuzz_readers.fuzz(reader, seconds, folder, suite.random.randrange(10**6))
    bad = found["crashes"] + found["hangs"]
    tries = found["executions"]
    return {"tries": tries, "survived": tries - bad, "bytes_lost": 0, **found}


# ------------------------------------------------------------------------------------------ Report


Case = Callable[[Suite], Iterator[Rows]]


def cases() -> dict[str, Case]:
    """By name; a case gives its rows, perhaps several times, each time with more in them."""

    def once(name: str, case: Callable[[Suite], Row]) -> Case:
        return lambda suite: iter([{name: case(suite)}])

    found: dict[str, Case] = {
        "kills": lambda suite: kills(suite, ("iae", "mutual", "final")),
        "kills_supervised": lambda suite: kills(suite, ("supervised",)),
    }
    for case in (signals, signal_to_one_host, second_interrupt, two_owners):
        found[case.__name__] = once(case.__name__, case)
    for case in (disk_full, read_only, vanished_data, damaged_checkpoints, memory):
        found[case.__name__] = once(case.__name__, case)
    for reader in fuzz_readers.READERS:
        name = f"fuzz_{reader}"
        found[name] = once(name, lambda suite, reader=reader: damaged_files(suite, reader))  # type: ignore[misc]
    return found


def table(rows: list[Row]) -> str:
    lines = [f"{'case':<22}{'tries':>9}{'survived':>10}{'bytes lost':>12}{'seconds':>9}"]
    lines += [
        f"{row['case']:<22}{row['tries']:>9}{row['survived']:>10}{row['bytes_lost']:>12}"
        f"{row['seconds']:>9.0f}"
        for row in rows
    ]
    return "\n".join(lines)


def main(command: Command) -> None:
    config, known = command.faults, cases()
    asked = [word for word in config.only.split(",") if word]
    for word in asked:
        if not any(name.startswith(word) for name in known):
            raise UserError(f"--only={word}: no such case; there are {', '.join(known)}")
    rows: Rows = {}
    if os.path.exists(config.output):
        with open(config.output, encoding="utf-8") as file:
            rows = {row["case"]: row for row in json.load(file) if row["form"] == config.form}
    with tempfile.TemporaryDirectory() as temporary:
        scratch = os.path.abspath(config.scratch or temporary)
        os.makedirs(os.path.join(scratch, "fuzz"), exist_ok=True)
        for name, case in known.items():
            if (asked and not any(name.startswith(word) for word in asked)) or (
                name in rows and not name.startswith("kills")
            ):
                continue
            began, seconds = time.monotonic(), rows.get(name, {}).get("seconds", 0.0)
            chance = random.Random(f"{config.seed} {name} {rows.get(name)}")
            for found in case(Suite(scratch, config.form == "short", chance, dict(rows))):
                for key, row in found.items():
                    spent = {"seconds": seconds + time.monotonic() - began}
                    rows[key] = {"case": key, "form": config.form, **row, **spent}
                write_json(config.output, list(rows.values()))
                print(table([rows[key] for key in found]), flush=True)
    print(table(list(rows.values())))
    lost = [name for name, row in rows.items() if row["survived"] < row["tries"]]
    if lost:
        raise UserError(f"not survived: {', '.join(lost)}; see {config.output}")


if __name__ == "__main__":
    cli.run(main, Command)
