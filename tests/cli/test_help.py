"""What a newcomer asks first: which commands there are, what they take, and that asking is quick."""

import re
import subprocess
import sys

import pytest

from lpqld.version import __version__
from tests.conftest import CHECKOUT, command_environment

COMMANDS = [
    *("sweep", "presets", "plan", "teacher fit", "synthesize", "relabel", "compress", "train"),
    *("import", "inspect", "verify", "pareto", "study", "export", "ui"),
]
ON_RAY = ["sweep", "teacher fit", "synthesize", "relabel", "train", "study"]
SEEDED = [*ON_RAY, "plan", "verify"]
ROOTED = ["sweep", "plan", "teacher fit", "synthesize", "relabel", "train", "pareto", "study", "export", "ui"]
OPTIONS = {
    "sweep": "--set --budget --trials --name --images --val --eval --teacher --teacher-arch --student-arch --ipc",
    "teacher fit": "--images --eval --arch --epochs --out --keep-every --keep-at --seeds",
    "synthesize": "--images --teacher --arch --ipc --out --iterations --mode --lr --bn-weight --shift --init "
    "--curriculum --batch-size --encoding --preset --workers",
    "relabel": "--images --teacher --arch --views --out --ipc --k --bits --codec --batch-size --workers "
    "--skip-bad-images",
    "compress": "--prune-ratio --budget --codec --k --bits --select",
    "train": "--images --labels --eval --arch --epochs --seeds --lr --batch-size --temperature --ca --order",
    "inspect": "--against --teacher",
    "verify": "--images --teacher",
    "study": "--images --eval --val --ipc --experts --expert-arch --expert-epochs --expert-seeds --arch --epochs "
    "--seeds --config --set",
    "export": "--out --budget --all --format",
}


def options_of(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text))


class TestHelp:
    @pytest.mark.parametrize("command", COMMANDS)
    def test_every_command_explains_itself(self, in_process, command):
        done = in_process(*command.split(), "--help")
        assert (done.exit_code, done.stderr) == (0, "")
        assert len(done.stdout.splitlines()) > 5
        expected = {"--json", "--debug", *OPTIONS.get(command, "").split()}
        common = {"--address": ON_RAY, "--seed": SEEDED, "--root": ROOTED}
        expected |= {option for option, commands in common.items() if command in commands}
        assert expected <= options_of(done.stdout)
        assert in_process(*command.split(), "-h").stdout == done.stdout

    def test_every_option_has_a_sentence(self):
        import typer

        from cli.main import app

        def leaves(command):
            subcommands = getattr(command, "commands", {}).values()
            return [leaf for sub in subcommands for leaf in leaves(sub)] or [command]

        for command in leaves(typer.main.get_command(app)):
            assert command.help, command.name
            for parameter in command.params:
                assert getattr(parameter, "help", None), f"{command.name} {parameter.name}"

    def test_overview_lists_every_command(self, in_process):
        text = in_process("--help").stdout
        assert "lpqld sweep digits" in text
        for command in COMMANDS:
            assert re.search(rf"^\W*{command.split()[0]}\b", text, re.MULTILINE), command

    def test_without_arguments_the_overview(self, in_process):
        done = in_process()
        assert done.exit_code in (0, 2)
        assert "Usage" in done.stdout + done.stderr

    def test_version(self, in_process):
        assert in_process("--version").stdout == f"{__version__}\n"

    def test_presets(self, in_process):
        import json

        found = json.loads(in_process("presets", "--json").stdout)
        assert [preset["name"] for preset in found] == ["cifar10", "cifar100", "digits", "in1k", "in21k", "tiny"]
        assert [preset["name"] for preset in found if not preset["needs_data"]] == ["digits"]
        table = in_process("presets").stdout
        assert all(preset["name"] in table for preset in found)

    def test_plan(self, in_process):
        document = in_process("plan", "digits", "--ipc", 2, "--budget", "x20", "--json").document
        assert (document["num_images"], document["num_views"]) == (20, 6000)
        assert document["budgets"][0]["budget"] == document["all_label_bytes"] / 20
        text = in_process("plan", "digits", "--ipc", 2).stdout
        for words in ("6,000, 300 per image", "all labels, fp16", "prune ratio", "views/s", "shards", "memory"):
            assert words in text


class TestProcess:
    def test_help_is_quick_and_loads_no_heavy_library(self):
        program = (
            "import sys\nfrom cli.main import app\ntry:\n    app(['--help'])\nexcept SystemExit:\n    pass\n"
            "heavy = {'torch', 'ray', 'mlflow', 'timm', 'optuna', 'numpy', 'pyarrow'} & set(sys.modules)\n"
            "sys.exit(f'imported {heavy}' if heavy else 0)"
        )
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=CHECKOUT,
            env=command_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    @pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
    def test_completion_script(self, shell):
        environment = {**command_environment(), "_LPQLD_COMPLETE": f"source_{shell}"}
        done = subprocess.run(
            [sys.executable, "-c", "from cli.main import app; app(prog_name='lpqld')"],
            cwd=CHECKOUT,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert "_LPQLD_COMPLETE" in done.stdout

    def test_completion_knows_commands_and_presets(self):
        def complete(words: str) -> str:
            position = str(len(words.split(" ")) - 1)
            environment = {**command_environment(), "_LPQLD_COMPLETE": "complete_bash"}
            return subprocess.run(
                [sys.executable, "-c", "from cli.main import app; app(prog_name='lpqld')"],
                cwd=CHECKOUT,
                env={**environment, "COMP_WORDS": words, "COMP_CWORD": position},
                capture_output=True,
                text=True,
                check=True,
            ).stdout

        assert "sweep" in complete("lpqld sw").split()
        assert {"in1k", "in21k"} <= set(complete("lpqld sweep in").split())
