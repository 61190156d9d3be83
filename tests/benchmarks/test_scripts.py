"""Every benchmark starts as its page says: by itself, finding its neighbours."""

import runpy
import sys
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT

BENCHMARKS = CHECKOUT / "benchmarks"
SCRIPTS = sorted(path for path in BENCHMARKS.rglob("*.py") if "__main__" in path.read_text())


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(BENCHMARKS)))
def test_a_script_tells_its_options(script, monkeypatch, capsys):
    # As `python SCRIPT` begins: its own folder first, none of the others, and no module of another script.
    elsewhere = [path for path in sys.path if not Path(path or ".").resolve().is_relative_to(BENCHMARKS)]
    monkeypatch.setattr(sys, "path", [str(script.parent), *elsewhere])
    for name in _neighbours():
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "argv", [str(script), "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    for name in _neighbours():
        del sys.modules[name]
    assert ended.value.code == 0
    assert "usage:" in capsys.readouterr().out


def _neighbours() -> list[str]:
    """Modules that are scripts' own."""
    files = {name: getattr(module, "__file__", None) for name, module in sys.modules.items()}
    return [name for name, file in files.items() if file and Path(file).is_relative_to(BENCHMARKS)]
