"""Batch sizes and precision for the devices; tests/training/test_learner.py has two replicas."""

import subprocess
import sys

import pytest
import tensorflow as tf

from mgta_tf.errors import UserError
from mgta_tf.runtime import strategy
from mgta_tf.runtime.strategy import make_strategy


def test_a_device_that_mines_triplets_needs_two_clusters():
    assert make_strategy(2, "clusters_per_batch", least=2).num_replicas_in_sync == 1
    with pytest.raises(UserError, match="clusters_per_batch=1: must be at least 2"):
        make_strategy(1, "clusters_per_batch", least=2)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("fpu avx512f avx512_bf16", ("bfloat16", "bfloat16: CPU with AVX512_BF16")),
        ("amx_bf16 avx512_bf16", ("bfloat16", "bfloat16: CPU with AVX512_BF16 and AMX")),
        ("avx512f avx512_vnni", ("off", "float32: CPU with neither AVX512_BF16 nor AMX")),
        (None, ("off", "float32: CPU with neither AVX512_BF16 nor AMX")),
    ],
)
def test_bfloat16_is_fast_if_the_cpu_has_it(flags, expected, tmp_path, monkeypatch):
    if flags is not None:
        (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
    monkeypatch.setattr(strategy, "CPU_INFO", str(tmp_path / "cpuinfo"))
    assert strategy.fast_precision() == expected


@pytest.mark.parametrize(
    ("capabilities", "precision"),
    [([(8, 0)], "bfloat16"), ([(9, 0), (7, 5)], "off"), ([(12, 0)], "bfloat16"), ([None], "off")],
)
def test_bfloat16_is_fast_if_every_gpu_has_it(capabilities, precision, monkeypatch):
    details = {c: {"compute_capability": c} if c else {} for c in capabilities}
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: capabilities)
    monkeypatch.setattr(tf.config.experimental, "get_device_details", details.get)
    assert strategy.fast_precision()[0] == precision


def test_tensorflow_gets_the_threads_of_an_operation_unless_it_runs_already():
    code = """
import tensorflow as tf
from mgta_tf.runtime.strategy import share_operations
found = []
for threads in (0, 1, 3):
    share_operations(threads)
    found.append(tf.config.threading.get_intra_op_parallelism_threads())
tf.constant(0)
share_operations(2)
print(*found, tf.config.threading.get_intra_op_parallelism_threads())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "1", "3", "3"]
