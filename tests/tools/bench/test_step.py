"""The rows of a training step."""

import pytest

from tools.bench import step

SECONDS = {
    "float32": [2.0, 2.0, 3.0],
    "bfloat16": [1.0, 1.0, 1.0],
    "product": [0.5],
    "PyTorch, float32": [3.0, 9.0, 1.0],
    "compiled PyTorch, float32": [2.5],
    "PyTorch, bfloat16": [0.8],
}
MISSING = {"compiled PyTorch, bfloat16": "no C++ compiler"}


def rows_by_name(default):
    pairs = step.compared(default, 1.5, with_torch=True)
    found = step.rows_of("a net", pairs, SECONDS, MISSING, 60, {"torch": "2"})
    return {row["bench"].removeprefix("step, a net: "): row for row in found}


@pytest.mark.parametrize(("default", "ours"), [("bfloat16", 60.0), ("float32", 30.0)])
def test_the_default_is_compared_with_the_default_of_pytorch(default, ours):
    row = rows_by_name(default)[f"default ({default}) against PyTorch"]
    assert (row["ours"], row["peer"]) == (ours, 20.0)  # medians of 60 images a step
    assert row["ratio"] == ours / 20
    assert row["pass"] == (ours / 20 >= 1.5)


def test_each_precision_is_compared_with_each_kind_of_pytorch():
    found = rows_by_name("float32")
    ratios = {name: row["ratio"] for name, row in found.items() if not name.startswith("default")}
    assert ratios == {
        "float32 against PyTorch": 1.5,
        "float32 against compiled PyTorch": 1.25,
        "bfloat16 against PyTorch": pytest.approx(0.8),
        "bfloat16 against compiled PyTorch (not measured: no C++ compiler)": None,
        "bfloat16 against our float32": 2.0,
    }


def test_without_pytorch_only_our_own_precisions_are_compared():
    (pair,) = step.compared("float32", 1.5, with_torch=False)
    assert pair[1:3] == ("bfloat16", "float32")


def test_the_share_of_the_product_is_that_of_its_operations():
    row = step.row_of_share("a net", 100.0, SECONDS)
    assert row["ours"] == 50  # 100 GFLOP in 2 seconds
    assert row["peer"] == pytest.approx(2 * 4000**3 / 1e9 / 0.5)


@pytest.mark.parametrize(("flags", "name"), [("", "float32"), ("avx512_bf16", "bfloat16")])
def test_the_default_is_that_of_the_command_on_this_machine(monkeypatch, tmp_path, flags, name):
    info = tmp_path / "cpuinfo"
    info.write_text(f"flags\t\t: fpu {flags}\n")
    monkeypatch.setattr("mgta_tf.runtime.strategy.CPU_INFO", str(info))
    assert step.default_precision() == name
