"""`lpqld sweep`, `lpqld presets`, `lpqld plan`."""

from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.table import Table

from cli import options
from cli.output import Answer, Reporter, command
from lpqld.byte_sizes import format_bytes


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
Budget = Annotated[
    list[str] | None,
    typer.Option("--budget", help="Bytes for labels, such as 50KB, or x40 for a fortieth of all labels. Repeatable."),
]
Name = Annotated[str | None, typer.Option("--name", help="Name of the experiment; default: the preset's.")]
ImagesOption = Annotated[str | None, typer.Option("--images", help=options.IMAGES_HELP)]
EvalOption = Annotated[str | None, typer.Option("--eval", help="Test images; without --val, half of them validate.")]
Val = Annotated[str | None, typer.Option("--val", help="Validation images, which select; default: half of --eval.")]
TeacherOption = Annotated[
    str | None, typer.Option("--teacher", help="Teacher checkpoint: .safetensors, or .pth/.pt/.th of weights.")
]
TeacherArch = Annotated[str | None, typer.Option("--teacher-arch", help="The teacher's architecture.")]
StudentArch = Annotated[str | None, typer.Option("--student-arch", help="The student's architecture.")]
Trials = Annotated[int | None, typer.Option("--trials", min=1, help="Trials per budget.")]
Seed = Annotated[
    int | None,
    typer.Option(
        "--seed",
        min=0,
        help="Seed of views, a fitted teacher and the search; images.seed, eval.seed and recover.seed are for "
        "themselves.",
    ),
]


_SETTING_OF = {
    "budget": "search.budgets",
    "trials": "search.trials",
    "name": "name",
    "images": "images.source",
    "val": "eval.val",
    "evaluation": "eval.source",
    "teacher": "teacher.source",
    "teacher_arch": "teacher.architecture",
    "student_arch": "student.architecture",
    "ipc": "images.ipc",
    "classes": "teacher.classes",
    "input_size": "teacher.input_size",
    "mean": "teacher.mean",
    "std": "teacher.std",
    "seed": "seed",
}


def _settings(assignments: list[str] | None, **options_given: Any) -> dict[str, Any]:
    """Options as dotted settings; `--set` comes first, so that an option wins over it."""
    from sweeps.config import parse_settings

    settings = parse_settings(assignments or [])
    given = {key: value for key, value in options_given.items() if value is not None}
    if "evaluation" in given and "val" not in given:
        settings.setdefault("eval.val", None)
    if str(given.get("teacher", "")).endswith(".safetensors"):
        settings.setdefault("teacher.architecture", None)  # its own metadata knows better than the preset
    for option in ("mean", "std"):
        if option in given:
            given[option] = options.parse_triple(given[option], f"--{option}")
    return {**settings, **{_SETTING_OF[option]: value for option, value in given.items()}}


@command
def sweep(
    preset: Preset,
    set_: Set = None,
    budget: Budget = None,
    trials: Trials = None,
    name: Name = None,
    images: ImagesOption = None,
    val: Val = None,
    evaluation: EvalOption = None,
    teacher: TeacherOption = None,
    teacher_arch: TeacherArch = None,
    student_arch: StudentArch = None,
    ipc: options.Ipc = None,
    classes: options.Classes = None,
    input_size: options.InputSize = None,
    mean: options.Mean = None,
    std: options.Std = None,
    address: options.Address = None,
    seed: Seed = None,
    root: options.Root = Path("runs"),
) -> Answer:
    """The main job: relabel once, search every budget, confirm the best, report the Pareto front.

    Interrupted, the same command goes on where it stopped. Try `lpqld sweep digits`: it needs no data.
    """
    from sweeps.config import load_config
    from sweeps.report import text_table
    from sweeps.sweep import run_sweep

    config = load_config(
        preset,
        _settings(
            set_,
            budget=budget or None,
            trials=trials,
            name=name,
            images=images,
            val=val,
            evaluation=evaluation,
            teacher=teacher,
            teacher_arch=teacher_arch,
            student_arch=student_arch,
            ipc=ipc,
            classes=classes,
            input_size=input_size,
            mean=mean,
            std=std,
            seed=seed,
        ),
    )
    with Reporter() as reporter:
        result = run_sweep(config, root, address=address, progress=reporter)
    return Answer(result.to_json(), Group(text_table(result), _next_lines(config, result, root)))


def _next_lines(config: Any, result: Any, root: Path) -> str:
    """The exact commands to type next."""
    from sweeps.jobs import images_source

    best = max(result.points, key=lambda point: (point.on_front, point.val_accuracy))
    at_root = "" if root == Path("runs") else f" --root {root}"
    out, images = f"{config.name}-labels", images_source(config, root / config.name)
    seconds = ", ".join(f"{phase} {spent:.0f} s" for phase, spent in result.seconds.items())
    notes = "".join(f"\nNote: {note}" for note in result.notes)
    return (
        f"{seconds}{notes}\n"
        f"Report: {root / config.name / 'report'}. Next:\n"
        f"  lpqld export {config.name} --budget {best.budget} --out {out}{at_root}\n"
        f"  lpqld train --labels {out} --images {images} --eval {config.eval.source}\n"
        f"  lpqld ui{at_root}"
    )


@command
def presets() -> Answer:
    """List the presets."""
    from sweeps.config import load_config, preset_names

    table = Table(box=None, pad_edge=False)
    for column in ("preset", "classes", "side", "budgets", "what"):
        table.add_column(column)
    documents = []
    for name in preset_names():
        config = load_config(name)
        needs = config.images.source is None
        documents.append({"name": name, "description": config.description, "needs_data": needs, **_short(config)})
        row = (str(config.num_classes), f"{config.images.size} px", " ".join(config.search.budgets))
        table.add_row(name, *row, config.description)
    return Answer(documents, table)


def _short(config: Any) -> dict[str, Any]:
    return {
        "num_classes": config.num_classes,
        "image_size": config.images.size,
        "images_per_class": config.images.ipc,
        "budgets": list(config.search.budgets),
    }


@command
def plan(
    preset: Preset,
    set_: Set = None,
    budget: Budget = None,
    trials: Trials = None,
    images: ImagesOption = None,
    teacher_arch: TeacherArch = None,
    student_arch: StudentArch = None,
    ipc: options.Ipc = None,
    seed: Seed = None,
    root: options.Root = Path("runs"),
) -> Answer:
    """Say what a sweep would store, relabel and train, and how long that takes here, before anything starts.

    Rates are measured for a few seconds on this machine; without --images, the bytes of images are estimated.
    """
    from sweeps.config import load_config
    from sweeps.plan import make_plan

    del root  # a plan stores nothing; the option is there so that a sweep's line can be planned as it is
    settings = _settings(
        set_,
        budget=budget or None,
        trials=trials,
        images=images,
        teacher_arch=teacher_arch,
        student_arch=student_arch,
        ipc=ipc,
        seed=seed,
    )
    made = make_plan(load_config(preset, settings))
    return Answer(made.to_json(), _plan_text(made))


def _recover_rows(made: Any) -> dict[str, str]:
    planned = made.synthesis
    if planned is None:
        return {}
    unknown = planned.squeeze_hours is None
    images = "of images.real" if unknown else f"of {planned.num_training_images:,} images"
    hours = "not known without images.real" if unknown else f"{planned.squeeze_hours:.2f} {made.hours.device}-hours"
    return {
        "squeeze": f"{images}: {format_bytes(planned.statistics_bytes)} of statistics, {hours}",
        "recover": f"{planned.num_batches:,} batches of up to {planned.batch_size}, {planned.iterations:,} iterations: "
        f"{planned.recover_hours:.2f} {made.hours.device}-hours at {planned.image_rate:,.0f} images/s",
    }


def _plan_text(made: Any) -> Group:
    from lpqld.images import memory_words

    images = made.images
    labels = made.labels
    memory = made.memory
    hours = made.hours
    estimated = " (estimated)" if images.image_bytes_are_estimated else ""
    facts = Table(box=None, show_header=False, pad_edge=False)
    rows = {
        "images": f"{images.num_images:,} of {images.num_classes:,} classes, {images.image_size} px, "
        f"{format_bytes(images.image_bytes)}{estimated}",
        "views": f"{labels.num_views:,}, {labels.views_per_image} per image",
        "all labels, fp16": f"{format_bytes(labels.all_label_bytes)}, {format_bytes(labels.bytes_per_label)} a label, "
        f"{labels.labels_to_images:.1f} x the images",
        "master on disk": f"{format_bytes(labels.master_bytes)} in {labels.num_masters * labels.num_shards:,} shards"
        + (f" of {labels.num_masters} label sets" if labels.num_masters > 1 else ""),
        "decoded images": f"{format_bytes(memory.pixel_bytes)}, {memory_words(memory.image_memory)}",
        "memory per relabel worker": format_bytes(memory.worker_memory),
        **_recover_rows(made),
        "relabel": f"{hours.relabel_hours:.2f} {hours.device}-hours at {hours.relabel_rate:,.0f} views/s",
        "students": f"{hours.num_trainings} trainings, {hours.train_hours:.2f} {hours.device}-hours "
        f"at {hours.train_rate:,.0f} views/s",
    }
    for key, value in rows.items():
        facts.add_row(key, value)
    budgets = Table(box=None, pad_edge=False)
    for column in ("budget", "compression", "labels / images", "k", "bytes per label", "prune ratio"):
        budgets.add_column(column, justify="right")
    for budget in made.budgets:
        budgets.add_row(
            format_bytes(budget.budget),
            f"x{budget.compression:.0f}",
            f"{budget.labels_to_images:.2f}",
            f"{budget.k[0]} - {budget.k[1]}",
            f"{budget.bytes_per_label[0]:.1f} - {budget.bytes_per_label[1]:.1f}",
            f"{budget.prune_ratio[0]:.4f} - {budget.prune_ratio[1]:.4f}",
        )
    return Group(facts, "", budgets)
