"""`lpqld synthesize`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import options
from cli.extras import require_sweep_extra
from cli.output import Answer, Reporter, command_listing, facts
from cli.recipe_options import options_of
from lpqld.byte_sizes import format_bytes
from lpqld.distill import RecoverRecipe
from lpqld.errors import ConfigError

if TYPE_CHECKING:
    from sweeps.config import TeacherConfig


@command_listing(
    "images source ipc out architecture mode iterations lr bn_weight shift init curriculum batch_size encoding preset "
    "set_ size workers classes input_size mean std address seed"
)
def synthesize(
    images: Annotated[str, typer.Option("--images", help=f"The teacher's training images. {options.IMAGES_HELP}")],
    teacher: options.Teacher,
    ipc: Annotated[int, typer.Option("--ipc", min=1, help="Images to recover of every class.")],
    out: Annotated[str, typer.Option("--out", help="Folder of the distilled images: a path or a URI.")],
    changes: Annotated[dict[str, Any], options_of(RecoverRecipe)],
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
    address: options.Address = None,
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
    require_sweep_extra("lpqld synthesize")
    from lpqld.images import Encoding, TrainingImages
    from lpqld.storage import location
    from sweeps.cluster import cluster, object_store_for
    from sweeps.jobs import EXPERIMENT, STATISTICS_FOLDER, SynthesisJob, open_teacher_for, synthesize_tracked
    from sweeps.tracking import Experiment

    base = _Base.of(preset)
    recipe = RecoverRecipe.from_json({**base.recipe.to_json(), **_recover_settings(set_ or []), **changes})
    image_encoding = Encoding.parse(encoding)
    teacher_config = base.teacher.model_copy(update=teacher.said)
    opened = TrainingImages.open(images, size=size or base.size or teacher_config.input_size)
    network = open_teacher_for(teacher_config, opened.class_names)
    folder = location(out)
    statistics_folder = location(str(root)) / STATISTICS_FOLDER if statistics is None else location(statistics)
    with Reporter() as reporter, cluster(address, object_store_bytes=object_store_for(opened.held_bytes)):
        reporter.say(f"training images: {len(opened.records)} of {opened.num_classes} classes, {opened.size} px")
        recovered = synthesize_tracked(
            Experiment.open(root, EXPERIMENT),
            SynthesisJob(network, opened, recipe, ipc, image_encoding),
            folder,
            statistics_folder,
            workers=workers,
            progress=reporter,
        )
    return _answer(recovered)


@dataclass(frozen=True)
class _Base:
    """What a preset says where options do not; without one, the defaults."""

    recipe: RecoverRecipe
    teacher: "TeacherConfig"
    size: int | None

    @classmethod
    def of(cls, preset: str | None) -> "_Base":
        from sweeps.config import TeacherConfig, load_config

        if preset is None:
            return cls(RecoverRecipe(), TeacherConfig(), None)
        config = load_config(preset)
        return cls(config.recover, config.teacher, config.images.size)


def _answer(recovered: Any) -> Answer:
    from lpqld.images import ImageSet
    from sweeps.jobs import SHEETS_FOLDER

    images = ImageSet.open(recovered.folder)
    last = [losses[-1] for losses in recovered.about["losses"]]
    document = {
        "path": str(recovered.folder),
        "num_images": images.num_images,
        "num_classes": images.num_classes,
        "size": images.size,
        "image_bytes": images.image_bytes,
        "cross_entropy": sum(entropy for _, entropy, _ in last) / len(last),
        "batch_norm": sum(distance for _, _, distance in last) / len(last),
        "contact_sheets": str(recovered.folder / SHEETS_FOLDER),
        "recipe": recovered.about["recipe"],
    }
    return Answer(document, facts({**document, "image_bytes": format_bytes(images.image_bytes)}))


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
