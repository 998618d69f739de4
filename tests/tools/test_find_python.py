"""`tools/find_python.sh` with fake interpreters."""

import pathlib
import subprocess

import pytest

SCRIPT = pathlib.Path(__file__).parents[2] / "tools" / "find_python.sh"
SHIM = "echo 'pyenv: python: command not found' >&2; exit 127"


@pytest.fixture
def find(tmp_path):
    """Runs the script on a machine that has only the given programs."""

    def run(programs, *asked):
        for name, script in programs.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"#!/bin/sh\n{script}\n")
            path.chmod(0o755)
        return subprocess.run(
            ["/bin/bash", str(SCRIPT), *asked],
            env={"PATH": str(tmp_path / "bin"), "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_the_newest_that_works_is_chosen(find, tmp_path):
    found = find(
        {
            "bin/python3.14": "echo 3.14",
            "bin/python3.13": SHIM,
            "bin/python3.12": "echo 3.12",
            "bin/python3.11": "echo 3.11",
        }
    )
    assert (found.returncode, found.stdout) == (0, "python3.12\n")
    assert found.stderr == "Python 3.12: python3.12\n"
    inside = tmp_path / ".pyenv/versions/3.13.0/bin/python"
    assert find({str(inside): "echo 3.13"}).stdout == f"{inside}\n"


def test_python_can_be_chosen(find):
    programs = {"bin/python3.12": "echo 3.12", "bin/python3.11": "echo 3.11", "bin/mine": SHIM}
    assert find(programs, "3.11").stdout == "python3.11\n"
    assert find(programs, "python3.11").stdout == "python3.11\n"
    for asked in ("mine", "3.10", "3.14", "python2"):
        found = find(programs, asked)
        assert (found.returncode, found.stdout) == (1, "")
        assert found.stderr.startswith(f"PYTHON={asked}: no Python 3.9 to 3.13 that runs")
        assert found.stderr.count("\n") == 1


def test_uv_installs_one_if_none_fits(find, tmp_path):
    theirs = tmp_path / "uv-python"
    uv = f"""
if [ "$*" = "python install 3.13" ]; then
    printf '#!/bin/sh\\necho 3.13\\n' > {theirs}; /bin/chmod +x {theirs}
else
    [ "$*" = "python find 3.13" ] && echo {theirs}
fi"""
    found = find({"bin/uv": uv, "bin/python3": "echo 3.8"})
    assert found.stdout == f"{theirs}\n"
    assert "no Python that fits is installed; uv installs 3.13" in found.stderr


def test_nothing_fits(find):
    found = find({"bin/python3.12": "echo 3.12; exit 1"})
    assert (found.returncode, found.stdout) == (1, "")
    assert "install one, or uv, or name it: make PYTHON=/path/to/python" in found.stderr
