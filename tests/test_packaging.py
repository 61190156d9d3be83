"""What is built is what runs: the wheel, the version, the example of the docs."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from lpqld.version import __version__

pytestmark = pytest.mark.integration  # starts processes of its own

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of what is tracked so that the checkout stays clean."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("lpqld", "sweeps", "cli", "pyproject.toml", "README.md", "LICENSE"):
        subprocess.run(["cp", "-r", ROOT / name, source / name], check=True)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, source]
    subprocess.run(command, check=True, capture_output=True)
    return next(out.glob("*.whl"))


class TestWheel:
    def test_it_holds_the_packages_and_the_presets_and_no_tests(self, wheel):
        names = zipfile.ZipFile(wheel).namelist()
        assert wheel.name.startswith(f"lpqld-{__version__}-")
        assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"lpqld", "sweeps", "cli"}
        presets = {Path(name).stem for name in names if name.endswith(".yaml")}
        assert presets == {"digits", "cifar10", "cifar100", "tiny", "in1k", "in21k"}
        assert any(name.endswith("licenses/LICENSE") for name in names)

    def test_the_command_runs_from_it(self, wheel, tmp_path):
        target = tmp_path / "site"
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", target, wheel]
        subprocess.run(pip, check=True, capture_output=True)
        environment = {**os.environ, "PYTHONPATH": str(target)}
        where = [
            sys.executable,
            "-c",
            "import cli, lpqld, sweeps; print(cli.__file__, lpqld.__file__, sweeps.__file__)",
        ]
        found = subprocess.run(where, env=environment, cwd=tmp_path, check=True, capture_output=True, text=True)
        assert found.stdout.count(str(target)) == 3
        for arguments in (["--help"], ["presets"], ["--version"]):
            command = [sys.executable, target / "bin" / "lpqld", *arguments]
            found = subprocess.run(command, env=environment, cwd=tmp_path, check=True, capture_output=True, text=True)
            assert found.stdout.strip()
