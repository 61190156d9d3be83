"""`lpqld synthesize`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cli import options
from cli.labels import facts
from cli.output import Answer, Reporter, command
from lpqld.byte_sizes import format_bytes
from lpqld.errors import ConfigError


@command
def synthesize(
    images: Annotated[str, typer.Option("--images", help=f"The teacher's training images. {options.IMAGES_HELP}")],
    teacher: options.Teacher,
    ipc: Annotated[int, typer.Option("--ipc", min=1, help="Images to recover of every class.")],
    out: Annotated[str, typer.Option("--out", help="Folder of the distilled images: a path or a URI.")],
    arch: options.Arch = None,
    mode: Annotated[
        str | None,
        typer.Option("--mode", help="class: a class's images together, to its own statistics; cross: as SRe2L."),
    ] = None,
    iterations: Annotated[int | None, typer.Option("--iterations", min=1, help="Steps of Adam.")] = None,
    lr: Annotated[float | None, typer.Option("--lr", help="At the first step.")] = None,
    bn_weight: Annotated[float | None, typer.Option("--bn-weight", min=0, help="Of the batch-norm distance.")] = None,
    shift: Annotated[int | None, typer.Option("--shift", min=0, help="Most pixels of the circular shift.")] = None,
    init: Annotated[str | None, typer.Option("--init", help="Start from noise, or from real images.")] = None,
    curriculum: Annotated[
        str | None, typer.Option("--curriculum", help="From whole images to small crops: none, linear, cosine.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", min=1, help="Images a step, in whole classes.")
    ] = None,
    encoding: Annotated[
        str, typer.Option("--encoding", help="Of the images: png or webp (both lossless), jpeg:90.")
    ] = "png",
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset", help="Recover as this preset, or YAML file, does, with its size and teacher's settings."
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any setting of recover, such as recover.crop_scale=[0.5,1]. Repeatable."),
    ] = None,
    size: options.Size = None,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Teachers at work at once.")] = None,
    classes: options.Classes = None,
    input_size: options.InputSize = None,
    mean: options.Mean = None,
    std: options.Std = None,
    address: options.Address = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Seed of everything that is drawn.")] = None,
    statistics: Annotated[
        str | None,
        typer.Option("--statistics", help="Where class statistics are kept: a path or a URI; default: under --root."),
    ] = None,
    root: options.Root = Path("runs"),
) -> Answer:
    """Squeeze a teacher's training images and recover distilled ones, on the Ray cluster; run again, it resumes.

    The teacher needs batch norm. Statistics of its classes are kept and found again. On a cluster, every node sees
    --images, --out and the statistics. Example:

    lpqld synthesize --images train/ --teacher resnet18.pth --arch resnet18 --preset in1k --ipc 10 --out distilled
    """
    from lpqld.distill import RecoverRecipe
    from lpqld.images import Encoding, ImageSet, TrainingImages
    from lpqld.storage import location
    from sweeps.cluster import cluster, object_store_for
    from sweeps.config import load_config
    from sweeps.jobs import (
        EXPERIMENT,
        SHEETS_FOLDER,
        STATISTICS_FOLDER,
        SynthesisJob,
        open_teacher_for,
        synthesize_tracked,
    )
    from sweeps.tracking import Experiment

    given = {
        "mode": mode,
        "iterations": iterations,
        "lr": lr,
        "bn_weight": bn_weight,
        "shift": shift,
        "init": init,
        "curriculum": curriculum,
        "batch_size": batch_size,
        "seed": seed,
    }
    config = None if preset is None else load_config(preset)
    base = RecoverRecipe() if config is None else config.recover
    changed = {key: value for key, value in given.items() if value is not None}
    recipe = RecoverRecipe.from_json({**base.to_json(), **_recover_settings(set_ or []), **changed})
    chosen = Encoding.parse(encoding)
    teacher_config = options.teacher_config(teacher, arch, classes, input_size, mean, std)
    if config is not None:
        said = {name: value for name, value in teacher_config.model_dump().items() if value is not None}
        teacher_config = config.teacher.model_copy(update=said)
        size = size or config.images.size
    opened = TrainingImages.open(images, size=size or teacher_config.input_size)
    network = open_teacher_for(teacher_config, opened.class_names)
    folder = location(out)
    kept = location(str(root)) / STATISTICS_FOLDER if statistics is None else location(statistics)
    with Reporter() as reporter, cluster(address, object_store_bytes=object_store_for(opened.held_bytes)):
        reporter.say(f"training images: {len(opened.records)} of {opened.num_classes} classes, {opened.size} px")
        recovered = synthesize_tracked(
            Experiment.open(root, EXPERIMENT),
            SynthesisJob(network, opened, recipe, ipc, chosen),
            folder,
            kept,
            workers=workers,
            progress=reporter,
        )
    found = ImageSet.open(recovered.folder)
    last = [losses[-1] for losses in recovered.about["losses"]]
    document = {
        "path": str(recovered.folder),
        "num_images": found.num_images,
        "num_classes": found.num_classes,
        "size": found.size,
        "image_bytes": found.image_bytes,
        "cross_entropy": sum(entropy for _, entropy, _ in last) / len(last),
        "batch_norm": sum(distance for _, _, distance in last) / len(last),
        "contact_sheets": str(recovered.folder / SHEETS_FOLDER),
        "recipe": recovered.about["recipe"],
    }
    shown = {**document, "image_bytes": format_bytes(found.image_bytes)}
    return Answer(document, facts(shown))


def _recover_settings(assignments: list[str]) -> dict[str, Any]:
    """The settings of recover by name.

    Raises:
        ConfigError: another setting.
    """
    from sweeps.config import parse_settings

    settings = parse_settings(assignments)
    others = [key for key in settings if not key.startswith("recover.")]
    if others:
        raise ConfigError(f"--set {others[0]}: expected a setting of recover, such as recover.crop_scale=[0.5,1]")
    return {key.removeprefix("recover."): value for key, value in settings.items()}
