"""The tables of docs/performance.md."""

import json

from tools.bench import rows
from tools.docs import performance

ABOUT = dict(
    versions={"tensorflow": "2.15.1"}, date="2026-01-02", threads=2, processor="Some CPU", load=0.5
)


def measured(row, **extra):
    return {**row, **ABOUT, "median": {"ours": 2.0, "peer": 4.0}, **extra}


def row(name, **extra):
    spread = {"ours": 0.1, "peer": 0.4}
    return measured(rows.row(name, 30.0, 20.0, "images/s", 1.5, 1.3), spread=spread, **extra)


def test_a_row_has_its_ratio_with_the_errors_of_both_sides():
    text = performance.tables([row("step")])
    # relative errors 0.05 and 0.1, so 1.5 × 0.15
    assert "| step | 30 | 20 | images/s | 1.50 ± 0.23 | 1.3 | met |" in text
    assert (
        "Measured on 2026-01-02, 2 cores of Some CPU, load 0.5 at most; tensorflow 2.15.1." in text
    )


def test_a_row_that_is_not_measured_is_marked():
    missing = measured(rows.not_measured("step", 30.0, "images/s", 1.0, "no C++ compiler"))
    text = performance.tables([missing])
    assert (
        "| step (not measured: no C++ compiler) | 30 |  | images/s |  | 1 | not measured |" in text
    )


def test_both_stacks_are_named():
    other = {**row("b"), "versions": {"tensorflow": "2.20.0"}, "date": "2026-01-03"}
    text = performance.tables([row("a"), other])
    assert "tensorflow 2.15.1 and 2.20.0" in text
    assert "Measured on 2026-01-02 and 2026-01-03" in text


def test_decoders_have_a_table_with_each_of_them_once():
    found = [
        row(
            f"step, small model, --decoder={kind} against mirror",
            gflop_per_image={"mirror": 4.0, kind: work},
            ms_per_image={"mirror": 200.0, kind: spent},
        )
        for kind, work, spent in (("light", 3.0, 160.0), ("none", 2.0, 80.0))
    ]
    lines = performance.table_of_decoders(found)[3:]
    assert lines == [
        "| small model | mirror | 4 | 200 | 20 |",
        "| small model | light | 3 | 160 | 18.8 |",
        "| small model | none | 2 | 80 | 25 |",
    ]


def test_thread_pools_have_a_separate_table():
    share = {"TensorFlow's default": 0.5, "one device per core": 0.75}
    text = performance.tables([row("threads, small model: one device per core", share=share)])
    assert "| small model | TensorFlow's default | 20 | 1.00 | 0.50 |" in text
    assert "| small model | one device per core | 30 | 1.50 | 0.75 |" in text
    assert "| threads," not in text


def test_several_files_are_read_in_order(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("<!-- tools/docs/performance.py writes what follows --><!-- end -->")
    names = []
    for name in ("one", "two"):
        names.append(str(tmp_path / f"{name}.json"))
        (tmp_path / f"{name}.json").write_text(json.dumps([row(name)]))
    performance.main(performance.PerformanceConfig(",".join(names), str(page)))
    text = page.read_text()
    assert text.index("| one |") < text.index("| two |")
