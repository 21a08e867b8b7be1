"""The rules of the house: floors, sizes, quick import, documented doors."""

import ast
import inspect
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "terracausal"
FLOORS = {
    "_foundation": 0,
    "plotting": 1,
    "imagery": 2,
    "encoders": 3,
    "study": 4,
    "simulate": 5,
    "datasets": 5,
    "nuisance": 6,
    "effects": 7,
    "mixtures": 7,
    "evaluation": 8,
    "sensitivity": 8,
    "interpret": 8,
    "transport": 8,
    "report": 9,
    "workflows": 10,
    "cli": 10,
    "__main__": 11,
}
MODULES = sorted(SOURCE.rglob("*.py"))
ROOMS = sorted(
    p.parent.name for p in SOURCE.glob("*/__init__.py") if p.parent.name != "_foundation"
)
_DEFAULT = re.compile(r"^(\w+) :.*\bdefault=(\([^)]*\)|\"[^\"]*\"|'[^']*'|[^\s,]+)", re.M)


def name_of(path):
    return str(path.relative_to(SOURCE))


def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"))


every_module = pytest.mark.parametrize("path", MODULES, ids=name_of)


def imported_rooms(path):
    """Rooms that a module imports from, wherever in its text (annotations aside)."""
    tree = tree_of(path)
    typing_only = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and ast.unparse(branch.test) == "TYPE_CHECKING"
        for node in ast.walk(branch)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in line {node.lineno}"
            names = [node.module or ""]
            if node.module == "terracausal":
                names = [f"terracausal.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found = (n.split(".")[1] for n in names if n.startswith("terracausal."))
        # doors and the version stand in the package itself, above all rooms
        yield from (n for n in found if n in FLOORS or (SOURCE / n).is_dir())


@every_module
def test_rooms_import_only_from_below(path):
    room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    if room == "__init__":
        return
    for other in imported_rooms(path):
        assert other == room or FLOORS[other] < FLOORS[room] or room == "cli", (
            f"{name_of(path)} (floor {FLOORS[room]}) imports {other} (floor {FLOORS[other]})"
        )


def test_every_room_has_a_floor():
    assert set(ROOMS) <= set(FLOORS)


def test_the_ground_floor_has_at_most_five_modules():
    modules = [p.name for p in (SOURCE / "_foundation").glob("*.py") if p.name != "__init__.py"]
    assert len(modules) <= 5


@every_module
def test_modules_are_short_and_named_for_what_they_hold(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 600
    assert path.stem not in {"utils", "helpers", "common", "misc", "util", "tools"}


@every_module
def test_functions_are_short_with_few_parameters(path):
    for node in ast.walk(tree_of(path)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        body = node.body[1:] if ast.get_docstring(node) else node.body
        if body:
            lines = body[-1].end_lineno - body[0].lineno + 1
            assert lines <= 60, f"{node.name} has {lines} lines"
        if node.name != "__init__":
            a = node.args
            names = [x.arg for x in (*a.posonlyargs, *a.args, *a.kwonlyargs)]
            count = len([name for name in names if name not in ("self", "cls")])
            assert count <= 8, f"{node.name} has {count} parameters"


@every_module
def test_no_assert_no_print_no_bare_except(path):
    for node in ast.walk(tree_of(path)):
        assert not isinstance(node, ast.Assert), f"assert in line {node.lineno}"
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"bare except in line {node.lineno}"
        if isinstance(node, ast.Call) and path.name != "cli.py":
            assert ast.unparse(node.func) != "print", f"print in line {node.lineno}"


@every_module
def test_no_global_randomness(path):
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("torch.manual_seed", "np.random.seed", "random.seed")
            if called.startswith("np.random."):
                assert called in ("np.random.default_rng", "np.random.SeedSequence")


def test_import_is_quick_and_light():
    code = (
        "import sys, time; start = time.perf_counter(); import terracausal; "
        "print(time.perf_counter() - start); print(*sorted({m.split('.')[0] for m in sys.modules}))"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    lines = [run.stdout.splitlines() for run in runs]
    heavy = {"torch", "econml", "matplotlib", "pyro", "geopandas", "rasterio", "sklearn", "zarr"}
    assert not heavy & set(lines[0][1].split())
    assert min(float(line[0]) for line in lines) < 1.5


@pytest.mark.parametrize("room", ["study", "nuisance", "effects", "evaluation"])
def test_statistical_rooms_do_not_load_torch_or_matplotlib(room):
    code = (
        f"import sys, terracausal.{room}; print(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "econml", "matplotlib", "pyro", "rasterio"} & set(run.stdout.split())


# -- doors -------------------------------------------------------------------------------------


def doors():
    for room in ROOMS:
        module = import_module(f"terracausal.{room}")
        for name in getattr(module, "__all__", ()):
            yield pytest.param(getattr(module, name), id=f"{room}.{name}")


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_say_what_they_are_and_sort_their_doors(room):
    module = import_module(f"terracausal.{room}")
    assert inspect.getdoc(module)
    names = list(getattr(module, "__all__", ()))
    assert names == sorted(names)
    assert all(hasattr(module, name) for name in names)


def test_top_level_doors_lead_somewhere():
    package = import_module("terracausal")
    for name in package.__all__:
        assert getattr(package, name).__name__ == name
    with pytest.raises(AttributeError, match=r"no attribute 'atlantis'"):
        _ = package.atlantis


@pytest.mark.parametrize("door", doors())
def test_doors_are_documented(door):
    if not (inspect.isclass(door) or inspect.isfunction(door)):
        pytest.skip("a constant or a type alias")
    text = inspect.getdoc(door)
    parameters = [
        name for name in inspect.signature(door).parameters if name not in ("args", "kwargs")
    ]
    if not inspect.isabstract(door):
        assert "Examples\n--------" in text
        assert ">>> " in text
    if parameters:
        assert "Parameters\n----------" in text
    section = text.split("Parameters\n----------")[-1]
    for name in parameters:
        assert re.search(rf"^\**(\w+, )*{name}(, \w+)* :", section, re.M), f"{name} is undocumented"


@pytest.mark.parametrize("door", doors())
def test_documented_defaults_are_the_real_ones(door):
    if not (inspect.isclass(door) or inspect.isfunction(door)):
        pytest.skip("a constant or a type alias")
    members = [door]
    if inspect.isclass(door):
        public = inspect.getmembers(door, inspect.isfunction)
        # scikit-learn adds set_..._request methods with docstrings of its own
        members += [m for n, m in public if n in vars(door) and not n.startswith(("_", "set_"))]
    for member in members:
        parameters = inspect.signature(member).parameters
        for name, text in _DEFAULT.findall(inspect.getdoc(member) or ""):
            if name in parameters:
                default = parameters[name].default
                try:
                    documented = ast.literal_eval(text)
                except (ValueError, SyntaxError):
                    documented = text
                # nan is not equal to itself, but prints the same
                assert documented == default or text == repr(default), (
                    f"{member.__name__}: {name} is documented as {text}, but is {default!r}"
                )
