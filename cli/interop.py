"""`lpqld import`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cli import options
from cli.labels import describe, facts
from cli.output import Answer, Reporter, command
from lpqld.byte_sizes import format_bytes
from lpqld.errors import ConfigError

FORMATS = ("fkd", "images", "tensors")


@command
def import_(
    source: Annotated[str, typer.Argument(metavar="SRC", help="Labels or images of another project.")],
    out: Annotated[str, typer.Argument(metavar="OUT", help="Folder to write: a path or a URI.")],
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
    images_key: Annotated[str | None, typer.Option("--images-key", help="tensors: the array of images.")] = None,
    labels_key: Annotated[str | None, typer.Option("--labels-key", help="tensors: the array of labels.")] = None,
    image_mean: Annotated[
        str | None, typer.Option("--image-mean", help="tensors: what was subtracted, such as 0.5,0.5,0.5.")
    ] = None,
    image_std: Annotated[str | None, typer.Option("--image-std", help="tensors: what was divided by.")] = None,
    soft_labels: Annotated[
        str | None, typer.Option("--soft-labels", help="tensors: a folder for a label set of their soft labels.")
    ] = None,
    teacher: Annotated[
        Path | None, typer.Option("--teacher", help="A checkpoint that is asked whether classes are in its order.")
    ] = None,
    arch: options.Arch = None,
    classes: options.Classes = None,
    input_size: options.InputSize = None,
    mean: options.Mean = None,
    std: options.Std = None,
) -> Answer:
    """Read another project's labels or images; nothing in them is executed.

    Labels come in losslessly, with the parameters of every view. Examples:

    lpqld import FKD_cutmix_fp16 labels --format fkd --images syn-imagenet --size 224

    lpqld import syn-imagenet distilled --format images --class-names imagenet-1k --teacher resnet18.pth --arch resnet18

    lpqld import res_DC_CIFAR10_ConvNet_10ipc.pt distilled --format tensors
    """
    if format_ not in FORMATS:
        raise ConfigError(f"--format {format_}: expected {', '.join(FORMATS)}")
    if format_ == "fkd":
        if images is None:
            raise ConfigError("--format fkd needs --images, those that the labels were made for")
        return _import_fkd(Path(source), images, out, size, sampler_seed)

    from lpqld.images import ImageSet, few, read_names, timm_names
    from lpqld.interop import check_class_order, named, of_tensors, read_tensors
    from lpqld.interop import soft_labels as as_label_set
    from lpqld.storage import location
    from sweeps.jobs import open_teacher_for

    document: dict[str, Any] = {"path": out}
    soft = None
    if format_ == "tensors":
        triples = options.parse_triple(image_mean, "--image-mean"), options.parse_triple(image_std, "--image-std")
        arrays = read_tensors(Path(source), images=images_key, labels=labels_key, mean=triples[0], std=triples[1])
        opened, soft = of_tensors(arrays, source), arrays.soft
        document |= {"arrays": list(arrays.names), "normalisation": arrays.normalisation, "clipped": arrays.clipped}
    else:
        opened = ImageSet.open(source, size=size)
    if class_names is not None:
        file = location(class_names)
        opened = named(opened, read_names(file, opened.class_names) if file.is_file() else timm_names(class_names))
    if teacher is not None:
        config = options.teacher_config(teacher, arch, classes, input_size, mean, std)
        document["teacher_accuracy"] = check_class_order(opened, open_teacher_for(config, opened.class_names))
    if soft is None and soft_labels is not None:
        raise ConfigError(f"--soft-labels {soft_labels}: the labels of {source} are classes")
    opened.write(out)
    written = ImageSet.open(out)
    document |= {
        "num_images": written.num_images,
        "num_classes": written.num_classes,
        "size": written.size,
        "image_bytes": written.image_bytes,
        "class_names": list(written.class_names),
    }
    if soft is not None and soft_labels is not None:
        as_label_set(written, soft).write(soft_labels)
        document["soft_labels"] = soft_labels
    shown = {**document, "image_bytes": format_bytes(written.image_bytes)}
    shown["class_names"] = few(written.class_names)
    if "clipped" in shown:
        shown["clipped"] = f"{document['clipped']:.1%} of the values lay outside what a pixel can be"
    if soft is not None and soft_labels is None:
        shown["soft_labels"] = "there are some; keep them with --soft-labels DIR"
    return Answer(document, facts(shown))


def _import_fkd(source: Path, images: str, out: str, size: int | None, sampler_seed: int) -> Answer:
    from lpqld.images import ImageSet, few
    from lpqld.interop import import_fkd
    from lpqld.storage import location

    opened = ImageSet.open(images, size=size)
    with Reporter() as reporter:
        found = import_fkd(
            source,
            opened,
            location(out),
            seed=sampler_seed,
            progress=reporter,
        )
        if found.agreement < 10 / opened.num_classes and opened.num_classes > 20:
            reporter.say(
                f"the largest logit is of the image's class, or of that of the image mixed into it, in "
                f"{found.agreement:.1%} of the labels: little more than a guess. Are classes in the order of the "
                f"teacher's? Expected {few(opened.class_names, 3)}"
            )
    document = {
        **describe(found.label_set),
        "source_bytes": found.source_bytes,
        "agreement": found.agreement,
        "order": found.order,
    }
    shown = {
        "path": document["path"],
        "labels": "{num_views} views of {num_images} images, {num_classes} classes".format(**document),
        "bytes": f"{format_bytes(document['bytes']['total'])} of {format_bytes(found.source_bytes)}, lossless",
        "order": found.order,
        "agreement": f"{found.agreement:.1%} of the labels are largest at the class of the image, or of its partner",
    }
    return Answer(document, facts(shown))
