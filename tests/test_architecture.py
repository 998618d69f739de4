"""The layers of the package: no upward imports, no import cycles, nothing too long to read."""

import ast
import itertools
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / "mgta_tf"

# Sub-packages and modules at the root, lowest layer first. Each imports from lower layers and from
# itself only. All others are commands, which form the top layer.
LAYERS = (
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
LAYER = {part: number for number, parts in enumerate(LAYERS) for part in parts}


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
    """The modules of the package that a module imports, also within functions.

    Imports under `if TYPE_CHECKING` are left aside: they do not happen when the program runs.
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


def part_of(module):
    return module.split(".")[1]


def layer_of(module):
    return LAYER.get(part_of(module), len(LAYERS))


def upward(graph):
    """Imports from another part that is not in a lower layer; commands may import each other."""
    return [
        f"{one} imports {other}"
        for one, others in graph.items()
        for other in sorted(others)
        if part_of(one) != part_of(other)
        and layer_of(one) <= layer_of(other)
        and layer_of(one) < len(LAYERS)
    ]


def cycle(graph):
    """The modules of an import cycle; empty if there is none."""
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


def test_layers_name_existing_parts_and_all_sub_packages():
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    modules = {path.stem for path in PACKAGE.glob("*.py")}
    assert folders <= LAYER.keys() <= folders | modules


def test_nothing_imports_upwards(graph):
    assert upward(graph) == []


def test_there_are_no_import_cycles(graph):
    assert cycle(graph) == []


def test_upward_imports_and_cycles_are_detected(tmp_path):
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
    assert cycle(graph) == ["mgta_tf.data.a", "mgta_tf.models.b", "mgta_tf.data.a"]


def too_long(paths, kinds, most):
    """Definitions of more than `most` lines, as 'file: name, lines'."""
    return [
        f"{path.relative_to(ROOT)}: {node.name}, {lines} lines"
        for path in paths
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, kinds) and (lines := node.end_lineno - node.lineno + 1) > most
    ]


def test_functions_have_at_most_60_lines():
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    assert too_long(sources("mgta_tf", "tools", "tests"), functions, 60) == []


def test_classes_of_training_have_at_most_150_lines():
    assert too_long(sources("mgta_tf/training"), ast.ClassDef, 150) == []


def test_files_have_at_most_500_lines():
    long = [
        f"{path.relative_to(ROOT)}: {lines} lines"
        for path in itertools.chain(sources("mgta_tf", "tools"), sources("tests"))
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 500
    ]
    assert long == []
