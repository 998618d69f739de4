"""Requirements, extras, console scripts and metadata of the package."""

import importlib.util
import os
import pathlib
import re
import subprocess
import sys
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import mgta_tf
from mgta_tf import detect
from mgta_tf.data.sources import DataConfig, open_source
from mgta_tf.detection.config import DetectConfig, DetectRunConfig
from mgta_tf.errors import UserError

ROOT = pathlib.Path(__file__).parent.parent


def requirements_of(name):
    """The lines of a file of requirements that name a package."""
    lines = (ROOT / name).read_text().splitlines()
    return [line for line in lines if line and not line.startswith(("#", "-"))]


def requirements():
    return set(requirements_of("requirements.txt"))


def project():
    tomllib = pytest.importorskip("tomllib", reason="tomllib came with Python 3.11")
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_requirements_are_the_package_with_its_extra_all():
    extras = project()["optional-dependencies"]
    assert extras["all"] == ["mgta_tf[detection,addons]"]
    parts = [*project()["dependencies"], *extras["detection"], *extras["addons"]]
    assert len(set(parts)) == len(parts)
    assert set(parts) == requirements()


def test_the_extra_dev_is_what_the_tests_need():
    named = requirements_of("requirements-dev.txt")
    assert project()["optional-dependencies"]["dev"] == ["mgta_tf[all]", *named]


def test_every_command_is_a_console_script():
    commands = {
        f"mgta-{name.replace('_', '-')}": "mgta_tf.console:main"
        for path in [*(ROOT / "mgta_tf").glob("*.py"), *(ROOT / "mgta_tf").glob("*/__main__.py")]
        for name in [path.parent.name if path.stem == "__main__" else path.stem]
        if re.search(r"^    cli\.run\(", path.read_text(), re.MULTILINE)
    }
    assert "mgta-train" in commands
    assert project()["scripts"] == commands


def test_the_citation_and_the_changelog_have_this_version():
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {mgta_tf.__version__}\n" in citation
    assert f"\n## {mgta_tf.__version__}\n" in (ROOT / "CHANGELOG.md").read_text()


def test_a_console_script_runs_the_command_of_its_name(tmp_path):
    script = tmp_path / "mgta-choose-k"
    script.write_text("from mgta_tf.console import main\nmain()\n")
    command = [sys.executable, str(script), "--output=k.json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == ("mgta_tf: error: give --features, or --saved_model with --data_dir\n")


def test_a_missing_extra_is_one_line_that_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    run = DetectRunConfig(saved_model="m", workdir=str(tmp_path / "w"))
    with pytest.raises(UserError, match=r"mgta_tf.detect needs .*'mgta_tf\[detection\]'"):
        detect.main(DetectConfig(run=run))
    assert not (tmp_path / "w").exists()
    with pytest.raises(UserError, match=r"--data_source=tfds:mnist needs TensorFlow Datasets"):
        open_source(DataConfig(data_source="tfds:mnist"))


def pins(name, python):
    """The specifier of each package that a file of requirements names for a Python version."""
    found = {}
    for requirement in map(Requirement, requirements_of(name)):
        if requirement.marker is None or requirement.marker.evaluate({"python_version": python}):
            assert canonicalize_name(requirement.name) not in found, requirement
            found[canonicalize_name(requirement.name)] = requirement.specifier
    return found


PYTHONS = ["3.9", "3.10", "3.11", "3.12", "3.13"]


@pytest.mark.parametrize("python", PYTHONS)
def test_each_python_has_one_version_of_every_requirement(python):
    direct, constraints = pins("requirements.txt", python), pins("constraints.txt", python)
    tensorflow = "2.15.1" if python in ("3.9", "3.10", "3.11") else "2.20.0"
    assert str(direct["tensorflow"]) == f"=={tensorflow}"
    assert ("tensorflow-addons" in direct) == (tensorflow == "2.15.1")
    for name, specifier in direct.items():
        (pin,) = constraints[name]
        assert pin.operator == "=="
        assert specifier.contains(pin.version)
        assert str(specifier).startswith("==") or name == "tensorflow-metadata"


@pytest.mark.parametrize("name", ["requirements-dev.txt", "requirements-docs.txt"])
@pytest.mark.parametrize("python", PYTHONS)
def test_what_tests_and_docs_add_has_one_version_that_the_constraints_allow(name, python):
    constraints = pins("constraints.txt", python)
    for package, specifier in pins(name, python).items():
        (pin,) = specifier
        assert pin.operator == "=="
        if package in constraints:
            assert constraints[package].contains(pin.version), package


def test_tensorboard_starts():
    """It imports `pkg_resources`, which only old releases of setuptools have."""
    command = [sys.executable, "-m", "tensorboard.main", "--version_tb"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == metadata.version("tensorboard"), done.stderr


KERAS_3 = metadata.version("keras").startswith("3.")


def imported(before, after="", **environment):
    """A process that runs `before`, imports mgta_tf, prints the origin of `tf.keras`, runs `after`.

    Only `environment` sets TF_USE_LEGACY_KERAS.
    """
    use = "import mgta_tf, tensorflow as tf\nprint(tf.keras.Model.__module__)"
    script = f"{before}\n{use}\n{after}"
    kept = {n: v for n, v in os.environ.items() if n != "TF_USE_LEGACY_KERAS"}
    return subprocess.run(
        [sys.executable, "-c", script],
        env={**kept, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("before", ["", "import tensorflow"])
def test_the_package_runs_on_keras_2(before):
    assert imported(before).stdout.startswith("tf_keras.src" if KERAS_3 else "keras.src")


@pytest.mark.skipif(not KERAS_3, reason="tf.keras of TensorFlow 2.15 is never Keras 3")
def test_keras_3_is_refused_once_it_was_used():
    touched = imported("import tensorflow as tf; tf.keras.Model")
    assert "ImportError: mgta_tf needs Keras 2, but tf.keras was used before" in touched.stderr
    assert "set TF_USE_LEGACY_KERAS=1" in touched.stderr


@pytest.mark.skipif(not KERAS_3, reason="tf.keras of TensorFlow 2.15 is never Keras 3")
def test_a_variable_that_selects_keras_3_is_refused_in_one_line():
    command = subprocess.run(
        [sys.executable, "-m", "mgta_tf.train", "--help"],
        env={**os.environ, "TF_USE_LEGACY_KERAS": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert command.returncode == 1
    assert command.stderr.count("\n") == 1
    assert "TF_USE_LEGACY_KERAS=0: mgta_tf needs Keras 2; unset it" in command.stderr


@pytest.mark.skipif(KERAS_3, reason="with Keras 3 the variable is needed")
def test_a_variable_that_selects_a_second_keras_2_is_removed():
    """Also for processes of the other stack, which inherit it, as in tools/bench/revisions.py."""
    found = imported("", "import sys; print('tf_keras' in sys.modules)", TF_USE_LEGACY_KERAS="1")
    assert found.stdout.split() == ["keras.src.engine.training", "False"]
    late = imported("import tensorflow", TF_USE_LEGACY_KERAS="True")
    assert "ImportError: TF_USE_LEGACY_KERAS=True was set when TensorFlow was" in late.stderr
    assert "unset it, or import mgta_tf first" in late.stderr


def test_model_garden_and_addons_are_imported_in_one_place_each():
    found = {"official": set(), "tensorflow_addons": set()}
    for path in (ROOT / "mgta_tf").rglob("*.py"):
        for module in found:
            if re.search(rf"^\s*(import|from) {module}\b", path.read_text(), re.MULTILINE):
                found[module].add(path.relative_to(ROOT / "mgta_tf").as_posix())
    assert found["tensorflow_addons"] == {"training/addons.py"}
    assert {path.split("/")[0] for path in found["official"]} == {"detection"}
