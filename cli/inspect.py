"""`lpqld inspect`, `lpqld verify`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cli import options
from cli.labels import describe, facts
from cli.output import Answer, command
from lpqld.byte_sizes import format_bytes
from lpqld.errors import ConfigError, DataError

LabelsArgument = Annotated[str, typer.Argument(metavar="LABELS", help="A label set: a path or a URI.")]
OptionalTeacher = Annotated[Path | None, typer.Option("--teacher", help="Teacher checkpoint.")]


def _open_teacher(
    path: Path,
    class_names: tuple[str, ...],
    arch: str | None,
    classes: str | None,
    input_size: int | None,
    mean: str | None,
    std: str | None,
) -> Any:
    from lpqld.models import load_teachers

    return load_teachers(
        path,
        architecture=arch,
        classes=classes,
        input_size=input_size,
        mean=options.parse_triple(mean, "--mean"),
        std=options.parse_triple(std, "--std"),
        image_class_names=class_names,
    )


@command
def inspect(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A label set, or an image set: a path or a URI.")],
    against: Annotated[str | None, typer.Option("--against", help="Another label set of the same views.")] = None,
    teacher: OptionalTeacher = None,
    arch: options.Arch = None,
    size: options.Size = None,
    classes: options.Classes = None,
    input_size: options.InputSize = None,
    mean: options.Mean = None,
    std: options.Std = None,
) -> Answer:
    """Say what a label set or an image set is: sizes, bytes, entropy.

    Label sets: fidelity --against another. Image sets: diversity and accuracy as a --teacher sees them.
    """
    from lpqld.labels import MANIFEST_FILE
    from lpqld.storage import location

    if (location(path) / MANIFEST_FILE).is_file():
        return _inspect_labels(path, against)
    if against is not None:
        raise ConfigError(f"--against compares label sets; {path} holds no {MANIFEST_FILE}")
    return _inspect_images(path, size, teacher, arch, classes, input_size, mean, std)


def _inspect_labels(path: str, against: str | None) -> Answer:
    from lpqld.labels import LabelSet, entropy, total_variation

    label_set = LabelSet.open(path)
    document = {
        **describe(label_set),
        "teacher": label_set.spec.teacher.to_json(),
        "entropy": entropy(label_set),
        "recipe": label_set.spec.recipe,
        "images": {"source": label_set.spec.images.source, "fingerprint": label_set.spec.images.fingerprint},
    }
    if against is not None:
        distances = total_variation(label_set.labels, LabelSet.open(against).labels)
        document["total_variation"] = {f"{temperature:g}": distance for temperature, distance in distances.items()}
    parts = ", ".join(f"{key} {format_bytes(value)}" for key, value in document["bytes"].items())
    text = {**document, "bytes": parts, "bytes_per_view": f"{document['bytes_per_view']:.2f}"}
    text["prune_ratio"] = f"{document['prune_ratio']:.4f}"
    text["labels_to_images"] = f"{document['labels_to_images']:.2f}"
    text["entropy"] = f"{document['entropy']:.3f} nats at T = 1"
    text["teacher"] = f"{label_set.spec.teacher.architecture} {label_set.spec.teacher.fingerprint[:16]}"
    return Answer(document, facts(text))


def _inspect_images(
    path: str,
    size: int | None,
    teacher: Path | None,
    arch: str | None,
    classes: str | None,
    input_size: int | None,
    mean: str | None,
    std: str | None,
) -> Answer:
    from lpqld.distill import within_class_similarity
    from lpqld.images import ImageSet
    from lpqld.models import accuracy, choose_device

    images = ImageSet.open(path, size=size)
    counts = images.labels.bincount(minlength=images.num_classes)
    document: dict[str, Any] = {
        "path": path,
        "num_images": images.num_images,
        "num_classes": images.num_classes,
        "images_per_class": {"smallest": int(counts.min()), "largest": int(counts.max())},
        "size": images.size,
        "resize": images.resize,
        "image_bytes": images.image_bytes,
        "fingerprint": images.fingerprint,
    }
    if teacher is not None:
        network = _open_teacher(teacher, images.class_names, arch, classes, input_size, mean, std)
        device = choose_device()
        document["teacher_accuracy"] = accuracy(network.to(device), images, device=device)
        document["within_class_similarity"] = within_class_similarity(network, images, device)
    return Answer(document, facts({**document, "image_bytes": format_bytes(images.image_bytes)}))


@command
def verify(
    labels: LabelsArgument,
    images: Annotated[str | None, typer.Option("--images", help=options.IMAGES_HELP)] = None,
    teacher: OptionalTeacher = None,
    arch: options.Arch = None,
    size: options.Size = None,
    sample: Annotated[int, typer.Option("--sample", min=1, help="How many labels to recompute.")] = 256,
    classes: options.Classes = None,
    input_size: options.InputSize = None,
    mean: options.Mean = None,
    std: options.Std = None,
    seed: options.Seed = 0,
) -> Answer:
    """Check every checksum of a label set; with --images and --teacher, recompute a sample of its labels.

    Recomputed labels may differ by rounding; more than one step is an error.
    """
    from lpqld.images import ImageSet
    from lpqld.labels import LabelSet, largest_difference
    from lpqld.models import choose_device

    if (images is None) != (teacher is None):
        raise ConfigError("recomputing labels needs both --images and --teacher")
    label_set = LabelSet.open(labels)
    label_set.verify()
    document: dict[str, Any] = {"path": str(labels), "num_views": label_set.spec.num_views, "checksums": "ok"}
    if images is not None and teacher is not None:
        opened = label_set.images_of(ImageSet.open(images, size=size or label_set.spec.images.size))
        network = _open_teacher(teacher, opened.class_names, arch, classes, input_size, mean, std)
        steps = largest_difference(
            label_set.labels, opened, network, num_views=sample, seed=seed, device=choose_device()
        )
        document |= {"recomputed": min(sample, label_set.spec.num_views), "largest_difference_in_steps": steps}
        if steps > 1:
            raise DataError(
                f"{labels}: recomputed labels differ by up to {steps:.1f} steps, and rounding explains 1 at most; the "
                f"teacher, its normalisation or class map are not those that made this set: "
                f"{label_set.spec.teacher.to_json()}"
            )
    return Answer(document, facts(document))
