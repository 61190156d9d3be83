"""Options that several commands share, spelled once."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lpqld.errors import ConfigError

if TYPE_CHECKING:
    from sweeps.config import TeacherConfig

IMAGES_HELP = (
    "Images: a Parquet file, a folder or glob of them, an image folder, a folder that lpqld wrote (each a path or a "
    "URI such as s3://bucket/images), hub:OWNER/NAME:SPLIT (Hugging Face), or digits, digits:train, digits:val, "
    "digits:test."
)


# What may be a URI is text: a Path would lose a slash of it.
def _local(root: Path) -> Path:
    from lpqld.storage import check_local

    try:
        check_local(root)
    except ConfigError as error:
        raise typer.BadParameter(
            f"{error}. Results lie in databases, which need a local or mounted folder; label sets may lie on shared"
            " storage: --out of relabel, compress and export, --set relabel.folder=URI of a sweep"
        ) from error
    return root


Root = Annotated[Path, typer.Option("--root", callback=_local, help="Local folder of all results.")]
Address = Annotated[
    str | None, typer.Option("--address", help="Address of a Ray cluster; default: RAY_ADDRESS, else a local one.")
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of everything that is drawn.")]
Images = Annotated[str, typer.Option("--images", help=IMAGES_HELP)]
Evaluation = Annotated[str, typer.Option("--eval", help="Evaluation images, in any of the layouts of --images.")]
Teacher = Annotated[
    Path,
    typer.Option(
        "--teacher",
        help="Teacher checkpoint: .safetensors, or weights in .pth/.pt/.th. Of several (a pattern such as "
        "'experts/*.safetensors', or a list with commas), the mean of their logits.",
    ),
]
Arch = Annotated[
    str | None,
    typer.Option(
        "--arch",
        help="convnet, convnet_d3, convnet_d4, cifar_resnet20, cifar_resnet56, tiny_resnet18, shufflenet_v2_x1_0, "
        "or any name of timm's.",
    ),
]
Ipc = Annotated[
    int | None, typer.Option("--ipc", min=1, help="Images per class, a seeded random choice; default: all images.")
]
Size = Annotated[
    int | None, typer.Option("--size", min=1, help="Side in pixels that images are brought to; default: their own.")
]
Classes = Annotated[
    str | None,
    typer.Option("--classes", help="Names of the teacher's outputs in order: a JSON or text FILE, or imagenet-1k."),
]
InputSize = Annotated[int | None, typer.Option("--input-size", min=1, help="Side in pixels that the teacher takes.")]
Mean = Annotated[str | None, typer.Option("--mean", help="The teacher's input mean, such as 0.5,0.5,0.5.")]
Std = Annotated[str | None, typer.Option("--std", help="The teacher's input deviation, such as 0.5,0.5,0.5.")]


def parse_triple(text: str | None, option: str) -> tuple[float, float, float] | None:
    """Three numbers, one per channel, or one for all.

    Raises:
        ConfigError: anything else.
    """
    if text is None:
        return None
    try:
        values = [float(part) for part in text.replace(",", " ").split()]
    except ValueError:
        values = []
    if len(values) == 1:
        values *= 3
    if len(values) != 3:
        raise ConfigError(f"{option} {text!r}: expected three numbers, such as 0.485,0.456,0.406")
    return values[0], values[1], values[2]


def teacher_config(
    teacher: Path, arch: str | None, classes: str | None, input_size: int | None, mean: str | None, std: str | None
) -> "TeacherConfig":
    """What the options above say of a teacher.

    Raises:
        ConfigError: --mean or --std are not numbers.
    """
    from sweeps.config import TeacherConfig

    return TeacherConfig(
        source=str(teacher),
        architecture=arch,
        classes=classes,
        input_size=input_size,
        mean=parse_triple(mean, "--mean"),
        std=parse_triple(std, "--std"),
    )
