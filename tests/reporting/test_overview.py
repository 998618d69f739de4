"""The overview at the top of the report, on runs with a known outcome."""

import dataclasses
import shlex

import pytest

from mgta_tf.reporting import overview, page, tables
from mgta_tf.reporting.record import Record
from mgta_tf.runtime.workdir import Workdir

FLAGS = {"data_dir": "my photos", "margin": 0.3, "image_size": 64}


def run(*stages, finished=True, **values):
    empty = {"flags": FLAGS, "changed": [], "supervised": False, "updated": "", "curves": {}}
    empty.update(members=None, probes={}, detection={}, baselines={}, name="w")
    empty.update(workdir=Workdir("runs/w"), finished=finished)
    summary = {"stages": list(stages), "num_images": 2000, **values.pop("summary", {})}
    return Record(**{**empty, "summary": summary, **values})


def stage(before, after, **values):
    return {"triplet_loss": after, "first": {"triplet_loss": before}, **values}


def answer(*stages, agreement=None, **values):
    return overview.learned(run(*stages, **values), agreement)


def test_a_loss_that_fell_and_one_that_did_not():
    assert (answer(stage(0.3, 0.1)).kind, answer(stage(0.3, 0.29)).kind) == ("good", "open")
    assert "from 0.3 to 0.1" in answer(stage(0.3, 0.1)).text
    assert answer(finished=False).text == "No training has ended yet."
    assert answer().text == "The net is untrained: the run has no epochs."


def test_hard_negatives_are_judged_by_the_batches_of_the_first_round():
    stages = stage(0.3, 0.1), stage(0.35, 0.32)
    assert "from 0.3 to 0.32" in answer(*stages).text
    hard = answer(*stages, flags={**FLAGS, "labels": "hard_negatives"})
    assert (hard.kind, "from 0.3 to 0.1" in hard.text) == ("good", True)


@pytest.mark.parametrize(
    ("now", "untrained", "kind", "words"),
    [
        (40.0, 20.0, "good", "Yes: 20-NN accuracy is 40.0 %, and 20.0 % before training."),
        # of 1,000 test images 1.96 √(0.21 · 0.79 / 1000) = 2.5 %
        (21.0, 20.0, "open", "within ±2.5 of 1000 test images"),
        (10.0, 20.0, "bad", "it became worse"),
    ],
)
def test_an_evaluation_counts_more_than_a_loss(now, untrained, kind, words):
    baselines = {"untrained": {"probe_knn": untrained}}
    found = answer(stage(0.3, 0.1, probe_knn=now), baselines=baselines)
    assert found.kind == kind
    assert words in found.text


def test_a_collapse_is_reported_first():
    collapsed = dict(
        triplet_active=1.0, hardest_positive=0.001, hardest_negative=0.001, pair_distance=0.001
    )
    assert answer(stage(0.5, 0.3, **collapsed)).kind == "bad"
    assert "collapsed" in answer(stage(0.5, 0.3, **collapsed)).text


STUCK = dict(triplet_active=1.0, hardest_positive=0.9, hardest_negative=0.8, pair_distance=1.2)


def test_a_loss_that_has_stayed_at_its_margin_is_not_a_success():
    found = answer(stage(0.6, 0.4, **STUCK))
    assert found.kind == "bad"
    assert found.text.startswith("No: the triplet loss has stayed at its margin (0.3)")
    baselines = {"untrained": {"probe_knn": 20.0}}
    found = answer(stage(0.6, 0.4, probe_knn=40.0, **STUCK), baselines=baselines)
    assert found.kind == "good"  # it was measured
    assert "But the triplet loss has stayed at its margin" in found.text


def test_clusters_are_beside_those_of_the_untrained_net_and_chance():
    row = dict(images=100, num_clusters=5, smallest=9, largest=30)
    row.update(nmi_truth=0.4, ari_truth=0.2, nmi_chance=0.1)
    untrained = {"nmi_truth": 0.25, "ari_truth": 0.05, "clustered": 100}

    def found(images):
        summary = {"labellings": [{**row, "images": images}]}
        of = run(stage(0.3, 0.1), summary=summary, baselines={"untrained": untrained})
        return {f.name[:3]: (f.now, f.before, f.chance) for f in overview.figures(of)[1:]}

    assert found(100) == {"NMI": ("0.400", "0.250", "0.100"), "ARI": ("0.200", "0.050", "0.000")}
    assert found(50)["NMI"] == ("0.400", "", "0.100")  # NMI depends on the number of images
    assert found(50)["ARI"] == ("0.200", "0.050", "0.000")


def test_neighbors_are_beside_those_of_the_untrained_net():
    agreement = {"encoder": 30.0, "thumbnail": 10.0, "chance": 8.0}
    (text,) = overview.found(run(baselines={"untrained": {"neighbors": 12.0}}), agreement)
    assert "of the untrained net 12 %, of 4×4 pixel thumbnails 10 %, by chance 8 %" in text
    (text,) = overview.found(run(), agreement)
    assert "untrained" not in text


def test_folders_that_are_not_visual_classes_do_not_change_the_answer():
    """Photographs by month or camera: neither thumbnails nor features show the folder."""
    assert answer(
        stage(0.3, 0.1), agreement={"encoder": 36.0, "thumbnail": 37.0, "chance": 38.0}
    ) == (answer(stage(0.3, 0.1), agreement={"encoder": 30.0, "thumbnail": 10.0, "chance": 8.0}))


def test_neighbors_beside_those_before_training_count_more_than_a_loss():
    found = {"encoder": 30.0, "thumbnail": 10.0, "chance": 8.0}

    def answer_beside(untrained):
        baselines = {"untrained": {"neighbors": untrained}}
        return answer(stage(0.3, 0.1), agreement=found, baselines=baselines)

    assert answer_beside(12.0).kind == "good"
    assert answer_beside(12.0).text.startswith("Yes: 30 % of the nearest neighbors have the class")
    assert answer_beside(12.0).text.endswith("and 12 % before training.")
    assert answer_beside(40.0).kind == "open"
    assert answer_beside(40.0).text.endswith("no more often than before training.")


def test_neighbors_must_be_better_than_those_of_thumbnails():
    found = {"encoder": 9.0, "thumbnail": 10.0, "chance": 8.0}
    assert answer(stage(0.3, 0.1), agreement=found).kind == "open"
    found = {"encoder": 30.0, "thumbnail": 10.0, "chance": 8.0}
    assert answer(stage(0.3, 0.1), agreement=found).kind == "good"


def test_every_figure_comes_with_the_untrained_net_and_chance():
    baselines = {
        "untrained": {"probe_knn": 20.0, "probe_top1": 21.0, "probe_map": 22.0},
        "chance": {"probe_knn": 10.0, "probe_top1": 11.0, "probe_map": 12.0},
    }
    probe = {"map": 50.0, "top1": 51.0, "baselines": {"chance": {"map": 5.0, "top1": 6.0}}}
    figures = overview.figures(
        run(
            stage(0.3, 0.1, probe_knn=40.0, probe_top1=41.0, probe_map=42.0),
            baselines=baselines,
            probes={"probe": probe},
        )
    )
    found = {one.name: (one.now, one.before, one.chance) for one in figures}
    assert found == {
        "Triplet loss": ("0.1", "0.3 at the first steps", ""),  # not of the untrained net
        "20-NN accuracy, own images": ("40.0 %", "20.0 %", "10.0 %"),
        "Linear SVM accuracy, own images": ("41.0 %", "21.0 %", "11.0 %"),
        "Linear SVM mAP, own images": ("42.0 %", "22.0 %", "12.0 %"),
        "probe: SVM mAP": ("50.0 %", "", "5.0 %"),
        "probe: SVM accuracy": ("51.0 %", "", "6.0 %"),
    }


def test_next_steps_depend_on_what_the_run_has():
    commands = [shlex.split(c)[2] for _, c in overview.next_steps(run(stage(0.3, 0.1)))]
    assert commands == ["mgta_tf.export", "mgta_tf.search", "mgta_tf.embed", "mgta_tf.probe"]
    exported = run(stage(0.3, 0.1), summary={"saved_model": "m"}, probes={"p": {}})
    commands = [shlex.split(c) for _, c in overview.next_steps(exported)]
    assert [words[2] for words in commands] == ["mgta_tf.search", "mgta_tf.embed"]
    assert {"--saved_model=m", "--data_dir=my photos"} <= set(commands[0])
    ((_, resume),) = overview.next_steps(run(finished=False))
    assert shlex.split(resume)[2:] == ["mgta_tf.train", "--flagfile=runs/w/flags.flagfile"]


def test_empty_columns_are_omitted():
    rows = [{"a": "1", "b": ""}, {"a": "", "b": ""}]
    found = tables.table(rows, ("a", lambda row: row["a"]), ("b", lambda row: row["b"]))
    assert found == tables.Table(["a"], [["1"], ["–"]])
    assert tables.table([], ("a", str)) is None


def test_runs_on_other_images_are_reported():
    def of(flags=(), **summary):
        one = run(stage(0.3, 0.1), summary=summary)
        return dataclasses.replace(one, flags={**FLAGS, **dict(flags)})

    one = of()
    assert page.warnings([one, one]) == []
    images = "These runs do not have the same images: {}. Compare neither their losses nor their "
    for other, how in (
        (of({"image_size": 32}), "--image_size is 64 and 32"),
        (of(num_images=1500), "they have 2,000 and 1,500 images"),
        (of({"data_dir": "moved"}), "--data_dir is my photos and moved"),
    ):
        assert page.warnings([one, other]) == [f"{images.format(how)}figures."]
    mean, total = (of({"reconstruction_reduction": value}) for value in ("mean", "sum"))
    assert page.warnings([mean, total]) == [
        "Their reconstruction losses have different scales: "
        "--reconstruction_reduction is mean and sum."
    ]
    views, hard = (of({"labels": value}) for value in ("none", "hard_negatives"))
    assert page.warnings([views, hard]) == [
        "Their triplet losses are of different batches: --labels is none and hard_negatives."
    ]


def test_images_are_compared_by_content_where_it_is_known():
    """Arrays of mgta_tf.pretrain have no folder; a folder that moved has the same images."""

    def of(data_dir, fingerprint):
        one = run(stage(0.3, 0.1), summary={"data_fingerprint": fingerprint})
        return dataclasses.replace(one, flags={**FLAGS, "data_dir": data_dir})

    (warning,) = page.warnings([of("", "a"), of("", "b")])
    assert "same images: the names or contents of their images differ. Compare" in warning
    assert page.warnings([of("photos", "a"), of("moved", "a")]) == []


def test_times_add_up_to_the_whole_waiting_time():
    """30 s and 20 s in turns, 4 s of pictures, and the user waited for 70 s."""
    rows = [
        stage(0.3, 0.1, stage="iae", seconds=30.0, show_seconds=3.0, wall_seconds=40.0),
        stage(0.3, 0.1, stage="final", seconds=20.0, show_seconds=1.0, wall_seconds=30.0),
    ]
    found = page.times(run(*rows))
    assert sum(seconds for *_, seconds in found) == pytest.approx(70)
    assert found[-1][2] == pytest.approx(16)
    old = [{k: v for k, v in row.items() if k != "wall_seconds"} for row in rows]
    assert sum(seconds for *_, seconds in page.times(run(*old))) == pytest.approx(54)
