"""Options of `lpqld sweep` and `lpqld plan`: a preset, and settings by their dotted names."""

from importlib import resources
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import options
from cli.option_groups import OptionGroup
from cli.recipe_options import options_of
from lpqld.models import TeacherSource

if TYPE_CHECKING:
    from sweeps.config import SweepConfig


def _complete_preset(incomplete: str) -> list[str]:
    # Not sweeps.config.load.preset_names: a Tab must not wait for torch.
    files = (resources.files("sweeps") / "presets").iterdir()
    names = sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml"))
    return [name for name in names if name.startswith(incomplete)]


Preset = Annotated[
    str,
    typer.Argument(
        metavar="PRESET|FILE.yaml",
        help="A preset (see `lpqld presets`) or a YAML file.",
        autocompletion=_complete_preset,
    ),
]
Set = Annotated[list[str] | None, typer.Option("--set", help="Any setting, as key=value with dots. Repeatable.")]
Seed = Annotated[
    int | None,
    typer.Option(
        "--seed",
        min=0,
        help="Seed of views, a fitted teacher and the search; images.seed, eval.seed and recover.seed are for "
        "themselves.",
    ),
]
_TEACHER = options_of(TeacherSource).options
# Settings that have an option of their own; `--set` reaches every one.
SETTINGS = OptionGroup(
    {
        "search.budgets": Annotated[
            list[str] | None,
            typer.Option(
                "--budget", help="Bytes for labels, such as 50KB, or x40 for a fortieth of all labels. Repeatable."
            ),
        ],
        "search.trials": Annotated[int | None, typer.Option("--trials", min=1, help="Trials per budget.")],
        "name": Annotated[str | None, typer.Option("--name", help="Name of the experiment; default: the preset's.")],
        "images.source": Annotated[str | None, typer.Option("--images", help=options.IMAGES_HELP)],
        "eval.val": Annotated[
            str | None, typer.Option("--val", help="Validation images, which select; default: half of --eval.")
        ],
        "eval.source": Annotated[
            str | None, typer.Option("--eval", help="Test images; without --val, half of them validate.")
        ],
        "teacher.source": Annotated[
            str | None,
            typer.Option("--teacher", help="Teacher checkpoint: .safetensors, or .pth/.pt/.th of weights."),
        ],
        "teacher.architecture": Annotated[
            str | None, typer.Option("--teacher-arch", help="The teacher's architecture.")
        ],
        "student.architecture": Annotated[
            str | None, typer.Option("--student-arch", help="The student's architecture.")
        ],
        "images.ipc": options.Ipc,
        **{f"teacher.{field}": _TEACHER[field] for field in ("classes", "input_size", "mean", "std")},
    }
)
# Those that change what is stored and trained.
PLANNED = SETTINGS.only(
    "search.budgets",
    "search.trials",
    "images.source",
    "teacher.architecture",
    "student.architecture",
    "images.ipc",
)


def load_chosen(preset: str, assignments: list[str] | None, chosen: dict[str, Any], seed: int | None) -> "SweepConfig":
    """A preset with settings; `--set` comes first, so that an option wins over it."""
    from sweeps.config import load_config, parse_settings

    settings = parse_settings(assignments or [])
    if "eval.source" in chosen and "eval.val" not in chosen:
        settings.setdefault("eval.val", None)
    if str(chosen.get("teacher.source", "")).endswith(".safetensors"):
        settings.setdefault("teacher.architecture", None)  # its own metadata knows better than the preset
    if seed is not None:
        settings["seed"] = seed
    return load_config(preset, {**settings, **chosen})
