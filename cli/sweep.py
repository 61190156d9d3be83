"""`lpqld sweep`, `lpqld presets`, `lpqld plan`."""

from pathlib import Path
from typing import Annotated, Any

from rich.console import Group
from rich.table import Table

from cli import options
from cli.extras import require_sweep_extra
from cli.output import Answer, Reporter, command, command_listing, facts
from cli.sweep_options import PLANNED, SETTINGS, Preset, Seed, Set, load_chosen
from lpqld.byte_sizes import format_bytes


@command_listing("preset set_")
def sweep(
    preset: Preset,
    chosen: Annotated[dict[str, Any], SETTINGS],
    set_: Set = None,
    address: options.Address = None,
    seed: Seed = None,
    root: options.Root = Path("runs"),
) -> Answer:
    """The main job: relabel once, search every budget, confirm the best, report the Pareto front.

    Interrupted, the same command goes on where it stopped. Try `lpqld sweep digits`: it needs no data.
    """
    require_sweep_extra("lpqld sweep")
    from sweeps.report import text_table
    from sweeps.sweep import run_sweep

    config = load_chosen(preset, set_, chosen, seed)
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


@command_listing("preset set_")
def plan(
    preset: Preset,
    chosen: Annotated[dict[str, Any], PLANNED],
    set_: Set = None,
    seed: Seed = None,
    root: options.Root = Path("runs"),
) -> Answer:
    """Say what a sweep would store, relabel and train, and how long that takes here, before anything starts.

    Rates are measured for a few seconds on this machine; without --images, the bytes of images are estimated.
    """
    from sweeps.plan import make_plan

    del root  # a plan stores nothing; the option is there so that a sweep's line can be planned as it is
    made = make_plan(load_chosen(preset, set_, chosen, seed))
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
    return Group(facts(rows), "", budgets)
