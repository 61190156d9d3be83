"""`lpqld train`."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from cli import options
from cli.extras import has_sweep_extra, require_sweep_extra
from cli.output import Answer, Reporter, command_listing
from cli.recipe_options import options_of
from lpqld.errors import ConfigError
from lpqld.training import Recipe

if TYPE_CHECKING:
    from lpqld.images import ImageSet
    from lpqld.labels import Labels, LabelSet
    from sweeps.jobs import StudentAccuracy, StudentJob


@command_listing(
    "images labels evaluation val architecture epochs seeds lr batch_size temperature ca optimizer warmup_epochs ema "
    "accumulate precision compile_ workers"
)
def train(
    images: options.Images,
    labels: Annotated[str, typer.Option("--labels", help="A label set: a path or a URI.")],
    evaluation: options.Evaluation,
    changes: Annotated[dict[str, Any], options_of(Recipe)],
    val: Annotated[str | None, typer.Option("--val", help="Validation images, to choose by.")] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="How many students, each from a seed of its own.")] = 3,
    compile_: Annotated[
        str, typer.Option("--compile", help="torch.compile: on, off, or auto (long trainings on CUDA).")
    ] = "auto",
    workers: Annotated[
        int, typer.Option("--workers", min=1, help="Processes that train each student together, a CPU or GPU each.")
    ] = 1,
    save: Annotated[
        Path | None, typer.Option("--save", help="Folder for the students' weights, as timm opens them.")
    ] = None,
    resize_ratio: Annotated[
        float, typer.Option("--resize-ratio", min=1.0, help="Evaluation images: side before the central crop / side.")
    ] = 1.0,
    address: options.Address = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The first seed; the others follow it.")] = 1,
    root: options.Root = Path("runs"),
) -> Answer:
    """Train students on a label set and report their accuracy over seeds.

    What is not given comes from the recipe in the label set's manifest. After an interruption the same command goes on
    from where it was. Example:

    lpqld train --labels digits-labels --images digits:train --eval digits:test
    """
    from lpqld.labels import LabelSet
    from lpqld.training import Compile
    from sweeps.jobs import StudentJob

    if workers > 1 or address is not None:
        require_sweep_extra("lpqld train with --workers or --address")
    if compile_ not in get_args(Compile):
        raise ConfigError(f"--compile {compile_}: expected {', '.join(get_args(Compile))}")
    label_set = LabelSet.open(labels)
    recipe = replace(_recipe_of(label_set), **changes)
    data = _Data.open(label_set, images, evaluation, val, resize_ratio)
    job = StudentJob(
        data.images,
        data.labels,
        data.test,
        recipe,
        validation=data.validation,
        compile=compile_,  # type: ignore[arg-type]
        save=None if save is None else save.absolute(),
    )
    with Reporter() as reporter:
        students = _trained(job, range(seed, seed + seeds), root / "train", reporter, workers, address, data.held_bytes)
    return _answer(students, label_set, recipe, data.test.num_images)


def _trained(
    job: "StudentJob",
    seeds: range,
    folder: Path,
    reporter: Reporter,
    workers: int,
    address: str | None,
    held_bytes: int,
) -> "list[StudentAccuracy]":
    """Train on Ray; without the extra that brings it, students one after another in this process."""
    if not has_sweep_extra():
        from sweeps.jobs import train_students_here

        return train_students_here(job, seeds, folder, reporter)
    from sweeps.cluster import cluster, object_store_for
    from sweeps.jobs import train_students

    with cluster(address, object_store_bytes=object_store_for(held_bytes)):
        return train_students(job, seeds, folder, reporter, workers)


def _recipe_of(label_set: "LabelSet") -> Recipe:
    """The recipe in a label set's manifest, or the usual one."""
    return Recipe() if label_set.spec.recipe is None else Recipe.from_json(label_set.spec.recipe)


@dataclass(frozen=True)
class _Data:
    """What students are trained on and judged by."""

    images: "ImageSet"
    labels: "Labels"
    test: "ImageSet"
    validation: "ImageSet | None"

    @classmethod
    def open(cls, label_set: "LabelSet", images: str, evaluation: str, val: str | None, resize_ratio: float) -> "_Data":
        from lpqld.images import ImageSet

        labelled = label_set.images_of(ImageSet.open(images, size=label_set.spec.images.size))

        def opened(path: str) -> ImageSet:
            names = labelled.class_names
            return ImageSet.open(path, size=labelled.size, class_names=names, eval_resize_ratio=resize_ratio)

        test, validation = opened(evaluation), None if val is None else opened(val)
        return cls(labelled, label_set.labels, test, validation)

    @property
    def held_bytes(self) -> int:
        """Bytes of memory that hold all of it."""
        sets = [self.images, self.test] if self.validation is None else [self.images, self.test, self.validation]
        return sum(each.held_bytes for each in sets) + self.labels.logits.num_bytes


def _answer(students: list[Any], label_set: "LabelSet", recipe: Recipe, num_test_images: int) -> Answer:
    from sweeps.report import Accuracy

    accuracy = Accuracy.of([student.test for student in students])
    chosen_by = [student.validation for student in students if student.validation is not None]
    document = {
        "accuracy": vars(accuracy),
        **({"val_accuracy": vars(Accuracy.of(chosen_by))} if chosen_by else {}),
        "label_bytes": label_set.num_bytes["total"],
        "image_bytes": label_set.spec.images.image_bytes,
        "recipe": recipe.to_json(),
    }
    text = f"accuracy {accuracy.mean:.2%} ± {accuracy.std:.2%} over {accuracy.n} seeds on {num_test_images} images"
    return Answer(document, text)
