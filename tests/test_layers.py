"""Imports point one way, between packages and rooms, through what rooms offer; importing does nothing but define."""

import ast
import importlib
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from lpqld._lazy import offered_names

CHECKOUT = Path(__file__).resolve().parent.parent
PACKAGES = ("lpqld", "sweeps", "cli")
FILES = sorted(path for package in PACKAGES for path in (CHECKOUT / package).rglob("*.py"))
# What uses the library as anyone does.
OUTSIDE = sorted(path for folder in ("benchmarks", "docs") for path in (CHECKOUT / folder).rglob("*.py"))
# What each package must not import, anywhere: at the top, inside functions, or for type checking.
FORBIDDEN = {
    "lpqld": {"sweeps", "cli", "ray", "mlflow", "optuna", "typer", "plotly", "rich"},
    "sweeps": {"cli", "typer"},
    "cli": {"ray", "mlflow", "optuna"},
}

# What each room may import beside the modules that lie next to the rooms; docs/architecture.md says the same.
_ABOVE = ("storage", "codecs", "images", "views", "models")
ROOMS = {
    "lpqld": {
        "storage": (),
        "codecs": (),
        "images": ("storage",),
        "views": ("storage", "images"),
        "models": ("storage", "images"),
        "labels": _ABOVE,
        "training": (*_ABOVE, "labels"),
        "distill": ("storage", "images", "views", "models"),
        "interop": (*_ABOVE, "labels"),
    },
    "sweeps": {
        "config": (),
        "report": (),
        "cluster": ("config",),
        "tracking": ("report",),
        "jobs": ("config", "cluster", "report", "tracking"),
        "search": ("config", "cluster", "jobs", "report", "tracking"),
        "studies": ("config", "cluster", "jobs", "report", "tracking"),
    },
}
# Modules beside the rooms: the library's are for all, the platform's doors are above its rooms.
BESIDE = {
    "lpqld": {"_lazy", "_malloc", "_numba", "byte_sizes", "counter_random", "errors", "progress", "version"},
    "sweeps": set(),
}
DOORS = {"sweep", "plan", "export"}

# Imports every module while it watches what our own code does meanwhile.
WATCH = """
import importlib, json, os, sys
ours = tuple(os.path.join(sys.argv[1], package) + os.sep for package in sys.argv[2].split(","))
seen = {"read": [], "made": []}

library = os.path.dirname(os.path.dirname(json.__file__)) + os.sep

def is_ours(frame):
    # Whether the code that led here, but for the standard library, is ours.
    while frame is not None:
        name = frame.f_code.co_filename
        standard = name.startswith(("<frozen", library)) and "site-packages" not in name
        if name != "<string>" and not standard:
            return name.startswith(ours)
        frame = frame.f_back
    return False

class Watched(type(os.environ)):
    def __getitem__(self, key):
        if is_ours(sys._getframe(1)):
            seen["read"].append(key)
        return super().__getitem__(key)

def audit(event, arguments):
    writes = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
    if event in ("os.mkdir", "sqlite3.connect", "socket.connect", "subprocess.Popen") or writes:
        if is_ours(sys._getframe(1)):
            seen["made"].append([event, str(arguments[0])])

os.environ.__class__ = Watched
sys.addaudithook(audit)
for module in sys.argv[3].split(","):
    importlib.import_module(module)
print(json.dumps(seen))
"""


def module_name(path: Path) -> str:
    parts = path.relative_to(CHECKOUT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path) -> set[str]:
    """Top-level names of everything that a file imports, by statement or by importlib."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            called = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            if called in ("import_module", "__import__") and node.args and isinstance(node.args[0], ast.Constant):
                names.add(str(node.args[0].value))
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports_point_one_way(path):
    package = path.relative_to(CHECKOUT).parts[0]
    assert not imported(path) & FORBIDDEN[package]


def room_of(module: str) -> str | None:
    """`labels` of `lpqld.labels.shards`; None of what is in no room."""
    package, _, rest = module.partition(".")
    room = rest.partition(".")[0]
    return room if room in ROOMS.get(package, ()) else None


def imports_of(path: Path) -> list[tuple[str, str]]:
    """Every module of ours that a file imports from, with the name that it takes; "" for the module itself."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found += [(node.module, alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names]
    return [(module, name) for module, name in found if module.partition(".")[0] in PACKAGES]


def wrong_imports(module: str, imports: list[tuple[str, str]]) -> list[str]:
    """What `module` must not import: a room that lies above or beside its own, or what a room does not offer."""
    package, room = module.partition(".")[0], room_of(module)
    wrong = []
    for target, name in imports:
        other_package, other = target.partition(".")[0], room_of(target)
        same_package = package == other_package
        if other is None:
            if same_package and room is not None and target.partition(".")[2] not in BESIDE[package]:
                wrong.append(f"{target}: rooms do not import it")
        elif same_package and other == room:
            continue
        elif same_package and room is not None and other not in ROOMS[package][room]:
            wrong.append(f"{target}: {package}/{room} may not import {other}")
        elif target != f"{other_package}.{other}" or name not in offers(target):
            wrong.append(f"{target}: {name} is not among what {other_package}/{other} offers")
    return wrong


@cache
def offers(room: str) -> dict[str, str]:
    """The names that a room's `__init__` offers, with the modules that define them."""
    return offered_names(room, str(CHECKOUT.joinpath(*room.split("."), "__init__.py")))


@pytest.mark.parametrize("path", [*FILES, *OUTSIDE], ids=module_name)
def test_rooms_are_entered_by_their_doors_and_in_one_direction(path):
    if path.name == "__init__.py" and path.parent.parent == CHECKOUT / path.relative_to(CHECKOUT).parts[0]:
        return  # what a room offers is tested below
    module = module_name(path)
    assert not wrong_imports(module if module.partition(".")[0] in PACKAGES else "elsewhere", imports_of(path))


@pytest.mark.parametrize(
    ("module", "target", "name"),
    [
        ("lpqld.images.hub", "lpqld.labels", "LabelSet"),  # upwards
        ("lpqld.training.loop", "lpqld.distill", "RecoverRecipe"),  # sideways
        ("lpqld.training.loop", "lpqld.labels.label_set", "LabelSet"),  # past the door
        ("cli.train", "lpqld.training", "nothing_of_that_name"),
        ("sweeps.config.sweep", "sweeps.sweep", "run_sweep"),  # a door
        ("sweeps.sweep", "sweeps.search.run", "search"),
        ("elsewhere", "lpqld.codecs.topk", "TopK"),
    ],
)
def test_the_first_wrong_import_fails(module, target, name):
    assert wrong_imports(module, [(target, name)])
    assert not wrong_imports("lpqld.labels.shards", [("lpqld.codecs", "TopK"), ("lpqld.errors", "DataError")])


@pytest.mark.parametrize("room", [f"{package}.{room}" for package in ROOMS for room in ROOMS[package]])
def test_a_room_says_what_it_is_for_and_offers_what_it_has(room):
    folder = CHECKOUT.joinpath(*room.split("."))
    modules = {path.stem for path in folder.iterdir()}
    assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))
    found = importlib.import_module(room)
    assert sorted(offers(room)) == found.__all__ == dir(found)
    # A name that is also a module's would be whichever was imported first.
    assert not set(found.__all__) & modules
    for name, module in offers(room).items():
        assert getattr(found, name) is getattr(importlib.import_module(module), name)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        found.nothing  # noqa: B018


def test_every_module_is_in_a_room_or_known_to_stand_beside_them():
    for package, rooms in ROOMS.items():
        entries = {path.stem for path in (CHECKOUT / package).iterdir() if path.suffix == ".py" or path.is_dir()}
        beside = BESIDE[package] | (DOORS if package == "sweeps" else set())
        assert entries - {"__init__", "__pycache__", "presets"} == set(rooms) | beside


def names_in(nodes: list[ast.AST]) -> set[str]:
    return {node.id for outer in nodes for node in ast.walk(outer) if isinstance(node, ast.Name)}


def test_compiled_functions_call_none_of_another_room():
    # numba's cache is named by the files of the function's own room: see `_numba`.
    for path in FILES:
        if any(module == "lpqld._numba" for module, _ in imports_of(path)):
            foreign = {name for module, name in imports_of(path) if room_of(module) != room_of(module_name(path))}
            functions = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
            compiled = [node for node in functions if {"compiled", "inlined"} & names_in(node.decorator_list)]
            assert not foreign & set().union(*(names_in(node.body) for node in compiled)), path


def test_the_public_names_are_loaded_when_they_are_asked_for():
    code = (
        "import sys, lpqld; assert 'torch' not in sys.modules\n"
        "from lpqld import ImageSet, LabelSet, ViewDataset, ViewSampler, Recipe, Student, train, load_teacher\n"
        "from lpqld.codecs import TopK\n"
        "assert lpqld.__all__ == dir(lpqld)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, check=True, timeout=1200)


def test_every_package_has_files():
    assert {path.relative_to(CHECKOUT).parts[0] for path in FILES} == set(PACKAGES)
    assert len(FILES) > 40


def test_the_reader_of_imports_sees_every_form(tmp_path):
    source = "import a.b, c\nfrom d.e import f\ndef g():\n    from h import i\nimport_module('j.k')\n__import__('l')\n"
    (tmp_path / "file.py").write_text(source)
    assert imported(tmp_path / "file.py") == {"a", "c", "d", "h", "j", "l"}


def watch(root: Path, packages: tuple[str, ...], modules: list[str], folder: Path) -> dict[str, list]:
    """What importing `modules` of `packages` under `root` did, in a process of its own that works in `folder`."""
    (folder / "home").mkdir()
    (folder / "work").mkdir()
    environment = {
        **os.environ,
        "HOME": str(folder / "home"),
        "PYTHONPATH": str(root),
        "PYTHONDONTWRITEBYTECODE": "1",
        # Whoever used these while importing would fail on them.
        "MLFLOW_TRACKING_URI": "nonsense://nowhere",
        "RAY_ADDRESS": "nowhere:1",
    }
    done = subprocess.run(
        [sys.executable, "-c", WATCH, str(root), ",".join(packages), ",".join(modules)],
        cwd=folder / "work",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def imports(tmp_path_factory) -> tuple[dict[str, list], Path]:
    """What importing every module did, and the folder in which it happened."""
    folder = tmp_path_factory.mktemp("imports")
    return watch(CHECKOUT, PACKAGES, [module_name(path) for path in FILES], folder), folder


@pytest.mark.integration
def test_the_watch_sees_what_it_must(tmp_path):
    package = tmp_path / "root" / "rude"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "reads.py").write_text("import os\nos.getenv('A')\nos.environ.get('B')\n'C' in os.environ\n")
    (package / "writes.py").write_text(
        "import pathlib, sqlite3\npathlib.Path('made').mkdir()\nopen('file', 'w').close()\nsqlite3.connect('db')\n"
    )
    seen = watch(tmp_path / "root", ("rude",), ["rude.reads", "rude.writes"], tmp_path)
    assert seen["read"] == ["A", "B", "C"]
    assert [event for event, _ in seen["made"]] == ["os.mkdir", "open", "sqlite3.connect"]


@pytest.mark.integration
def test_importing_reads_no_configuration_from_the_environment(imports):
    assert imports[0]["read"] == []


@pytest.mark.integration
def test_importing_creates_no_folder_and_no_file(imports):
    seen, folder = imports
    assert seen["made"] == []
    assert list((folder / "work").iterdir()) == []


@pytest.mark.integration
def test_the_library_alone_brings_no_platform_along():
    modules = ",".join(module_name(path) for path in FILES if path.is_relative_to(CHECKOUT / "lpqld"))
    code = "import importlib, sys; [importlib.import_module(m) for m in sys.argv[1].split(',')]; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, modules],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
        timeout=1200,
    )
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "lpqld" in loaded
    assert not loaded & {"sweeps", "cli", "ray", "mlflow", "optuna", "typer", "plotly"}
