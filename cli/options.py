"""Options that several commands share, spelled once."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cli.option_groups import OptionGroup
from cli.recipe_options import options_of
from lpqld.errors import ConfigError
from lpqld.models import ARCHITECTURES, TeacherSource

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
Arch = Annotated[str | None, typer.Option("--arch", help=ARCHITECTURES)]
Ipc = Annotated[
    int | None, typer.Option("--ipc", min=1, help="Images per class, a seeded random choice; default: all images.")
]
Size = Annotated[
    int | None, typer.Option("--size", min=1, help="Side in pixels that images are brought to; default: their own.")
]
TeacherFiles = Annotated[
    Path,
    typer.Option(
        "--teacher",
        help="Teacher checkpoint: .safetensors, or weights in .pth/.pt/.th. Of several (a pattern such as "
        "'experts/*.safetensors', or a list with commas), the mean of their logits.",
    ),
]
OptionalTeacherFiles = Annotated[Path | None, typer.Option("--teacher", help="Teacher checkpoint.")]


def teacher_options(files: Any) -> OptionGroup:
    """Options of a teacher, `files` that of its checkpoints; a command gets a `TeacherSource`, or None without them."""
    return options_of(TeacherSource, _teacher_source, needed="source", source=files)


def _teacher_source(values: dict[str, Any]) -> TeacherSource:
    return TeacherSource(**{**values, "source": str(values["source"])})


Teacher = Annotated[TeacherSource, teacher_options(TeacherFiles)]
OptionalTeacher = Annotated[TeacherSource | None, teacher_options(OptionalTeacherFiles)]
