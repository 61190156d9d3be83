"""cli -> sweeps -> lpqld, one way; and importing does nothing but define."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
PACKAGES = ("lpqld", "sweeps", "cli")
FILES = sorted(path for package in PACKAGES for path in (CHECKOUT / package).rglob("*.py"))
# What each package must not import, anywhere: at the top, inside functions, or for type checking.
FORBIDDEN = {
    "lpqld": {"sweeps", "cli", "ray", "mlflow", "optuna", "typer", "plotly", "rich"},
    "sweeps": {"cli", "typer"},
    "cli": {"ray", "mlflow", "optuna"},
}

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
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def imports(tmp_path_factory) -> tuple[dict[str, list], Path]:
    """What importing every module did, and the folder in which it happened."""
    folder = tmp_path_factory.mktemp("imports")
    return watch(CHECKOUT, PACKAGES, [module_name(path) for path in FILES], folder), folder


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


def test_importing_reads_no_configuration_from_the_environment(imports):
    assert imports[0]["read"] == []


def test_importing_creates_no_folder_and_no_file(imports):
    seen, folder = imports
    assert seen["made"] == []
    assert list((folder / "work").iterdir()) == []


def test_the_library_alone_brings_no_platform_along():
    modules = ",".join(module_name(path) for path in FILES if path.is_relative_to(CHECKOUT / "lpqld"))
    code = "import importlib, sys; [importlib.import_module(m) for m in sys.argv[1].split(',')]; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, modules],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "lpqld" in loaded
    assert not loaded & {"sweeps", "cli", "ray", "mlflow", "optuna", "typer", "plotly"}
