"""`lpqld inspect`, `lpqld verify`."""

from typing import Annotated, Any

import typer

from cli import options
from cli.labels import describe
from cli.output import Answer, command_listing, facts
from lpqld.byte_sizes import format_bytes
from lpqld.errors import ConfigError, DataError
from lpqld.models import TeacherSource

LabelsArgument = Annotated[str, typer.Argument(metavar="LABELS", help="A label set: a path or a URI.")]


@command_listing("path against source architecture size")
def inspect(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A label set, or an image set: a path or a URI.")],
    against: Annotated[str | None, typer.Option("--against", help="Another label set of the same views.")] = None,
    teacher: options.OptionalTeacher = None,
    size: options.Size = None,
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
    return _inspect_images(path, size, teacher)


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
    return Answer(document, facts({**document, **_shown(document, label_set.spec.teacher)}))


def _shown(document: dict[str, Any], teacher: Any) -> dict[str, str]:
    """What a person reads in place of some values."""
    return {
        "bytes": ", ".join(f"{key} {format_bytes(value)}" for key, value in document["bytes"].items()),
        "bytes_per_view": f"{document['bytes_per_view']:.2f}",
        "prune_ratio": f"{document['prune_ratio']:.4f}",
        "labels_to_images": f"{document['labels_to_images']:.2f}",
        "entropy": f"{document['entropy']:.3f} nats at T = 1",
        "teacher": f"{teacher.architecture} {teacher.fingerprint[:16]}",
    }


def _inspect_images(path: str, size: int | None, teacher: TeacherSource | None) -> Answer:
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
        network = teacher.load(images.class_names)
        device = choose_device()
        document["teacher_accuracy"] = accuracy(network.to(device), images, device=device)
        document["within_class_similarity"] = within_class_similarity(network, images, device)
    return Answer(document, facts({**document, "image_bytes": format_bytes(images.image_bytes)}))


@command_listing("labels images source architecture size sample classes input_size mean std")
def verify(
    labels: LabelsArgument,
    images: Annotated[str | None, typer.Option("--images", help=options.IMAGES_HELP)] = None,
    teacher: options.OptionalTeacher = None,
    size: options.Size = None,
    sample: Annotated[int, typer.Option("--sample", min=1, help="How many labels to recompute.")] = 256,
    seed: options.Seed = 0,
) -> Answer:
    """Check every checksum of a label set; with --images and --teacher, recompute a sample of its labels.

    Recomputed labels may differ by rounding; more than one step is an error.
    """
    from lpqld.labels import LabelSet

    if (images is None) != (teacher is None):
        raise ConfigError("recomputing labels needs both --images and --teacher")
    label_set = LabelSet.open(labels)
    label_set.verify()
    document: dict[str, Any] = {"path": labels, "num_views": label_set.spec.num_views, "checksums": "ok"}
    if images is not None and teacher is not None:
        document["recomputed"] = min(sample, label_set.spec.num_views)
        document["largest_difference_in_steps"] = _recompute(label_set, labels, images, size, teacher, sample, seed)
    return Answer(document, facts(document))


def _recompute(
    label_set: Any, path: str, images: str, size: int | None, teacher: TeacherSource, sample: int, seed: int
) -> float:
    """The largest difference, in steps, between labels of a sample and what the teacher says now.

    Raises:
        DataError: it is more than rounding explains.
    """
    from lpqld.images import ImageSet
    from lpqld.labels import largest_difference
    from lpqld.models import choose_device

    spec = label_set.spec
    opened = label_set.images_of(ImageSet.open(images, size=size or spec.images.size))
    network = teacher.load(opened.class_names)
    steps = largest_difference(label_set.labels, opened, network, num_views=sample, seed=seed, device=choose_device())
    if steps > 1:
        raise DataError(
            f"{path}: recomputed labels differ by up to {steps:.1f} steps, and rounding explains 1 at most; the "
            f"teacher, its normalisation or class map are not those that made this set: "
            f"{spec.teacher.to_json()}"
        )
    return steps
