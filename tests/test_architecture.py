"""The floors of the package: no import upwards, no circle, nothing too long to read."""

import ast
import itertools
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / "mgta_tf"

# Rooms (a folder or a module at the root), lowest first. A room imports from lower floors and from
# itself. Whatever is not named is a command, and stands above them all.
FLOORS = (
    ("errors",),
    ("config", "extras", "flagfiles"),
    ("runtime",),
    ("cli", "clustering", "data"),
    ("models",),
    ("evaluation",),
    ("embed",),
    ("detection", "training"),
    ("reporting",),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def sources(*folders):
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def modules_of(package):
    """Module name → syntax tree."""
    named = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        named[".".join(parts)] = ast.parse(path.read_text(encoding="utf-8"))
    return named


def imports_of(tree, known):
    """The modules of the package that one imports, also within functions; not those of its types.

    What stands under `if TYPE_CHECKING` is never imported when the program runs.
    """
    typing_only = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and "TYPE_CHECKING" in ast.unparse(branch.test)
        for node in ast.walk(branch)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if name in known else node.module for name in names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & known.keys()


def room_of(module):
    return module.split(".")[1]


def floor_of(module):
    return FLOOR.get(room_of(module), len(FLOORS))


def upward(graph):
    """Imports between rooms that do not lead down; commands may use each other."""
    return [
        f"{one} imports {other}"
        for one, others in graph.items()
        for other in sorted(others)
        if room_of(one) != room_of(other)
        and floor_of(one) <= floor_of(other)
        and floor_of(one) < len(FLOORS)
    ]


def circle(graph):
    """A circle of imports, as the modules on it; empty if there is none."""
    done = set()

    def visit(module, path):
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return []
        for other in sorted(graph[module]):
            found = visit(other, [*path, module])
            if found:
                return found
        done.add(module)
        return []

    return next(filter(None, (visit(module, []) for module in graph)), [])


@pytest.fixture(scope="module")
def graph():
    known = modules_of(PACKAGE)
    known.pop("mgta_tf")  # the facade; every import runs it first
    return {module: imports_of(tree, known) for module, tree in known.items()}


def test_every_room_of_the_table_exists_and_folders_are_in_it():
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    modules = {path.stem for path in PACKAGE.glob("*.py")}
    assert folders <= FLOOR.keys() <= folders | modules


def test_nothing_imports_upwards(graph):
    assert upward(graph) == []


def test_there_is_no_circle_of_imports(graph):
    assert circle(graph) == []


def test_upward_imports_and_circles_would_be_seen(tmp_path):
    package = tmp_path / "mgta_tf"
    (package / "data").mkdir(parents=True)
    (package / "data" / "a.py").write_text(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from mgta_tf import errors\n"
        "def f():\n    from mgta_tf.models import b\n"
    )
    (package / "models").mkdir()
    (package / "models" / "b.py").write_text("from mgta_tf.data.a import f\n")
    (package / "errors.py").write_text("")
    known = modules_of(package)
    graph = {module: imports_of(tree, known) for module, tree in known.items()}
    assert upward(graph) == ["mgta_tf.data.a imports mgta_tf.models.b"]
    assert circle(graph) == ["mgta_tf.data.a", "mgta_tf.models.b", "mgta_tf.data.a"]


def too_long(paths, kinds, most):
    """Definitions of more than so many lines: "file: name, lines"."""
    return [
        f"{path.relative_to(ROOT)}: {node.name}, {lines} lines"
        for path in paths
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, kinds) and (lines := node.end_lineno - node.lineno + 1) > most
    ]


def test_functions_have_60_lines_at_most():
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    assert too_long(sources("mgta_tf", "tools", "tests"), functions, 60) == []


def test_classes_of_the_training_have_150_lines_at_most():
    assert too_long(sources("mgta_tf/training"), ast.ClassDef, 150) == []


def test_files_have_500_lines_at_most():
    long = [
        f"{path.relative_to(ROOT)}: {lines} lines"
        for path in itertools.chain(sources("mgta_tf", "tools"), sources("tests"))
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 500
    ]
    assert long == []
