"""The rooms of ``inference`` and what each may import; see docs/architecture.md."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
#: Rooms from the bottom floor up: a room imports only rooms on floors below its own, and itself.
FLOORS = (
    ("evaluation", "errors", "home", "progress"),
    ("features", "simulation", "pseudonyms", "home_format", "event_log", "threads"),
    ("lock",),
    ("warehouse", "notifications"),
    ("text", "text.encoder"),
    ("model", "model.transformer", "feature_store", "recommendations"),
    ("registry", "erasure"),
    ("training", "scoring"),
    ("decisions", "reporting", "realtime"),
    ("desk", "desk.pages", "serving", "maintenance"),
    ("cli_events",),
    ("cli",),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS, 1) for room in rooms}
SOURCES = {
    ".".join(path.relative_to(PROJECT).with_suffix("").parts): path for path in (PROJECT / "inference").rglob("*.py")
}


def room(module: str) -> str:
    """The longest known room that a module lies in, such as ``text.encoder`` for inference.text.encoder.runtimes."""
    parts = module.split(".")[1:]
    return next((name for end in range(len(parts), 0, -1) if (name := ".".join(parts[:end])) in FLOOR), "")


def imported(tree: ast.AST) -> set[str]:
    """Modules of the project that a module imports, at the top or inside a function."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in SOURCES else node.module for name in inner}
    return {name for name in found if name.startswith("inference")}


IMPORTS = {module: imported(ast.parse(path.read_text())) for module, path in SOURCES.items()}


def upward(module: str, imports: set[str]) -> list[str]:
    """Imports of a module that lie on its own floor in another room, or above it."""
    here = room(module)
    top = here.split(".")[0]
    return sorted(i for i in imports if room(i).split(".")[0] != top and FLOOR[room(i)] >= FLOOR[here])


@pytest.mark.parametrize("module", sorted(set(SOURCES) - {"inference.__init__"}))
def test_a_room_imports_only_rooms_below_it(module: str) -> None:
    assert upward(module, IMPORTS[module]) == []


def test_no_module_is_part_of_a_circle() -> None:
    TopologicalSorter(IMPORTS).prepare()  # raises CycleError with the modules of a circle


def test_an_upward_import_is_found() -> None:
    assert upward("inference.features.packing", imported(ast.parse("from inference import cli"))) == ["inference.cli"]
    planted = "def f():\n    from inference.serving.app import create_app"
    assert upward("inference.desk.app", imported(ast.parse(planted))) == ["inference.serving.app"]


def test_every_package_door_is_empty() -> None:
    doors = [ast.parse(path.read_text()).body for path in (PROJECT / "inference").rglob("__init__.py")]
    assert all(len(body) == 1 and isinstance(body[0], ast.Expr) for body in doors)


def test_rooms_and_files_stay_small() -> None:
    folders = {path.parent for path in SOURCES.values()}
    assert {f: n for f in folders if (n := len([*f.glob("*.py")])) > 13} == {}  # twelve and the door
    assert {m: n for m, path in SOURCES.items() if (n := len(path.read_text().splitlines())) > 400} == {}


def test_functions_stay_short() -> None:
    long = {
        f"{module}.{node.name}": lines
        for module, path in SOURCES.items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (lines := body_lines(node)) > 60
    }
    assert long == {}


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring."""
    first = function.body[0]
    has_docstring = ast.get_docstring(function) is not None
    return function.end_lineno - function.lineno + 1 - (first.end_lineno - first.lineno + 1 if has_docstring else 0)
