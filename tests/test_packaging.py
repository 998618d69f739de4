"""What is installed, and what is said about it."""

import pathlib
import re
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent


def requirements():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return {line for line in lines if line and not line.startswith(("#", "-c"))}


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib came with Python 3.11")
def test_the_package_depends_on_what_requirements_names():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(project["dependencies"]) == requirements()


def test_every_requirement_is_pinned_and_in_the_constraints():
    constraints = "\n" + (ROOT / "constraints.txt").read_text().lower()
    for requirement in requirements():
        name, operator = re.match(r"([\w.-]+)(==|<)", requirement).groups()
        assert f"\n{name}==" in constraints
        assert operator == "==" or name == "tensorflow-metadata"


def test_model_garden_and_addons_are_imported_in_one_place_each():
    found = {"official": set(), "tensorflow_addons": set()}
    for path in (ROOT / "mgta_tf").rglob("*.py"):
        for module in found:
            if re.search(rf"^\s*(import|from) {module}\b", path.read_text(), re.MULTILINE):
                found[module].add(path.relative_to(ROOT / "mgta_tf").as_posix())
    assert found["tensorflow_addons"] == {"training/addons.py"}
    assert {path.split("/")[0] for path in found["official"]} == {"detection"}
