"""`lpqld import`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import options
from cli.labels import describe
from cli.option_groups import OptionGroup
from cli.output import Answer, Reporter, command_listing, facts
from cli.recipe_options import option_of, parse_triple
from lpqld.byte_sizes import format_bytes
from lpqld.errors import ConfigError
from lpqld.models import TeacherSource

if TYPE_CHECKING:
    from lpqld.interop import ImportedImages, Naming

FORMATS = ("fkd", "images", "tensors")


_AskedTeacher = Annotated[
    Path | None, typer.Option("--teacher", help="A checkpoint that is asked whether classes are in its order.")
]


_ARRAYS = OptionGroup(
    {
        "images_key": Annotated[str | None, typer.Option("--images-key", help="tensors: the array of images.")],
        "labels_key": Annotated[str | None, typer.Option("--labels-key", help="tensors: the array of labels.")],
        "image_mean": Annotated[
            str | None, typer.Option("--image-mean", help="tensors: what was subtracted, such as 0.5,0.5,0.5.")
        ],
        "image_std": Annotated[str | None, typer.Option("--image-std", help="tensors: what was divided by.")],
        "soft_labels": Annotated[
            str | None, typer.Option("--soft-labels", help="tensors: a folder for a label set of their soft labels.")
        ],
    }
)


@command_listing("src out format_ images size sampler_seed class_names")
def import_(
    src: Annotated[str, typer.Argument(metavar="SRC", help="Labels or images of another project.")],
    out: Annotated[str, typer.Argument(metavar="OUT", help="Folder to write: a path or a URI.")],
    arrays: Annotated[dict[str, Any], _ARRAYS],
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            help="fkd: labels, batch_*.tar or epoch_*/batch_*.tar, as SRe2L, CDA, LPLD, LPQLD write; images: class "
            "folders, Parquet, saved Hugging Face data sets; tensors: .pt, .npy, .npz, .h5 of MTT, DATM, DC, DM.",
        ),
    ] = "fkd",
    images: Annotated[
        str | None,
        typer.Option("--images", help="fkd: the images that the labels were made for, as lpqld train takes them."),
    ] = None,
    size: options.Size = None,
    sampler_seed: Annotated[
        int,
        typer.Option("--sampler-seed", min=0, help="fkd: of the sampler, where the folder does not say the order."),
    ] = 42,
    class_names: Annotated[
        str | None,
        typer.Option(
            "--class-names", help="Names of the images' classes in order: a JSON or text FILE, or a timm list."
        ),
    ] = None,
    teacher: Annotated[TeacherSource | None, options.teacher_options(_AskedTeacher)] = None,
) -> Answer:
    """Read another project's labels or images; nothing in them is executed.

    Labels come in losslessly, with the parameters of every view. Examples:

    lpqld import FKD_cutmix_fp16 labels --format fkd --images syn-imagenet --size 224

    lpqld import syn-imagenet distilled --format images --class-names imagenet-1k --teacher resnet18.pth --arch resnet18

    lpqld import res_DC_CIFAR10_ConvNet_10ipc.pt distilled --format tensors
    """
    if format_ not in FORMATS:
        raise ConfigError(f"--format {format_}: expected {', '.join(FORMATS)}")
    from lpqld.interop import Naming

    if format_ == "fkd":
        return _labels(src, images, out, size, sampler_seed)
    naming = Naming(class_names, teacher)
    if format_ == "images":
        return _images(src, out, size, naming, arrays.get("soft_labels"))
    return _arrays(src, out, arrays, naming)


def _labels(source: str, images: str | None, out: str, size: int | None, sampler_seed: int) -> Answer:
    from lpqld.interop import import_labels

    if images is None:
        raise ConfigError("--format fkd needs --images, those that the labels were made for")
    with Reporter() as reporter:
        imported = import_labels(
            source,
            images,
            out,
            size=size,
            seed=sampler_seed,
            progress=reporter,
        )
        if imported.doubt is not None:
            reporter.say(imported.doubt)
    labels = imported.labels
    document = {
        **describe(labels.label_set),
        "source_bytes": labels.source_bytes,
        "agreement": labels.agreement,
        "order": labels.order,
    }
    shown = {
        "path": document["path"],
        "labels": "{num_views} views of {num_images} images, {num_classes} classes".format(**document),
        "bytes": f"{format_bytes(document['bytes']['total'])} of {format_bytes(labels.source_bytes)}, lossless",
        "order": labels.order,
        "agreement": f"{labels.agreement:.1%} of the labels are largest at the class of the image, or of its partner",
    }
    return Answer(document, facts(shown))


def _images(source: str, out: str, size: int | None, naming: "Naming", soft_labels: str | None) -> Answer:
    from lpqld.interop import import_images

    if soft_labels is not None:
        raise ConfigError(f"--soft-labels {soft_labels}: the labels of {source} are classes")
    return _images_answer(import_images(source, out, size=size, naming=naming), out)


def _arrays(source: str, out: str, said: dict[str, Any], naming: "Naming") -> Answer:
    from lpqld.interop import import_arrays

    arguments = dict(said)
    for key in said.keys() & {"image_mean", "image_std"}:
        arguments[key] = parse_triple(said[key], option_of(key))
    imported = import_arrays(source, out, naming=naming, **arguments)
    return _images_answer(imported, out, said.get("soft_labels"))


def _images_answer(imported: "ImportedImages", out: str, soft_labels: str | None = None) -> Answer:
    images, arrays = imported.images, imported.arrays
    document: dict[str, Any] = {"path": out}
    if arrays is not None:
        document |= {"arrays": list(arrays.names), "normalisation": arrays.normalisation, "clipped": arrays.clipped}
    if imported.teacher_accuracy is not None:
        document["teacher_accuracy"] = imported.teacher_accuracy
    document |= {
        "num_images": images.num_images,
        "num_classes": images.num_classes,
        "size": images.size,
        "image_bytes": images.image_bytes,
        "class_names": list(images.class_names),
    }
    if soft_labels is not None:
        document["soft_labels"] = soft_labels
    return Answer(document, facts({**document, **_shown(imported, soft_labels)}))


def _shown(imported: "ImportedImages", soft_labels: str | None) -> dict[str, str]:
    """What a person reads in place of some values."""
    from lpqld.errors import few

    images, arrays = imported.images, imported.arrays
    shown = {"image_bytes": format_bytes(images.image_bytes), "class_names": few(images.class_names)}
    if arrays is not None:
        shown["clipped"] = f"{arrays.clipped:.1%} of the values lay outside what a pixel can be"
    if arrays is not None and arrays.soft is not None and soft_labels is None:
        shown["soft_labels"] = "there are some; keep them with --soft-labels DIR"
    return shown
