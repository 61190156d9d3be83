"""`lpqld train` and `lpqld teacher fit`."""

from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from cli import options
from cli.output import Answer, Reporter, command
from lpqld.errors import ConfigError

teacher_app = typer.Typer(help="Train teachers.", no_args_is_help=True)


@command
def train(
    images: options.Images,
    labels: Annotated[str, typer.Option("--labels", help="A label set: a path or a URI.")],
    evaluation: options.Evaluation,
    val: Annotated[str | None, typer.Option("--val", help="Validation images, to choose by.")] = None,
    arch: options.Arch = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Passes over the images.")] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="How many students, each from a seed of its own.")] = 3,
    lr: Annotated[float | None, typer.Option("--lr", help="Peak learning rate.")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", min=1, help="Views per step.")] = None,
    temperature: Annotated[
        str | None, typer.Option("--temperature", help="The teacher's: 20, 20:2:step, 20:2:cosine, or 2:20:step.")
    ] = None,
    ca: Annotated[str | None, typer.Option("--ca", help="The student's temperature: fit, paper or off.")] = None,
    optimizer: Annotated[str | None, typer.Option("--optimizer", help="adamw or sgd.")] = None,
    warmup_epochs: Annotated[
        int | None, typer.Option("--warmup-epochs", min=0, help="Epochs in which the learning rate rises.")
    ] = None,
    ema: Annotated[
        float | None, typer.Option("--ema", help="Decay of the average of the weights, such as 0.999; 0 for none.")
    ] = None,
    accumulate: Annotated[
        int | None, typer.Option("--accumulate", min=1, help="Parts that a step is cut into, to save memory.")
    ] = None,
    precision: Annotated[
        str | None, typer.Option("--precision", help="auto, float32, or bfloat16 (mixed precision).")
    ] = None,
    compile_: Annotated[
        str, typer.Option("--compile", help="torch.compile: on, off, or auto (long trainings on CUDA).")
    ] = "auto",
    workers: Annotated[
        int, typer.Option("--workers", min=1, help="Processes that train each student together, a CPU or GPU each.")
    ] = 1,
    weight_decay: Annotated[
        float | None, typer.Option("--weight-decay", min=0, help="Not of biases and norms.")
    ] = None,
    order: Annotated[
        str | None,
        typer.Option("--order", help="views: every image once an epoch; recorded: the batches of an imported set."),
    ] = None,
    augment_crop: Annotated[
        float | None,
        typer.Option(
            "--augment-crop",
            help="Of one label for each whole image: students see other crops each epoch, of this share and more.",
        ),
    ] = None,
    augment_flip: Annotated[
        bool | None, typer.Option("--augment-flip", help="And half of them mirrored.", show_default=False)
    ] = None,
    hard_every: Annotated[
        int | None,
        typer.Option(
            "--hard-every", min=0, help="Every so many-th epoch is of hard labels, which take no bytes; 0: none."
        ),
    ] = None,
    hard_weight: Annotated[
        float | None, typer.Option("--hard-weight", min=0, help="Of their loss beside KL times T squared.")
    ] = None,
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
    from lpqld.images import ImageSet
    from lpqld.labels import LabelSet
    from lpqld.training import Compile, Recipe
    from sweeps.cluster import cluster, object_store_for
    from sweeps.jobs import train_students
    from sweeps.report import Accuracy

    if compile_ not in get_args(Compile):
        raise ConfigError(f"--compile {compile_}: expected {', '.join(get_args(Compile))}")
    label_set = LabelSet.open(labels)
    base = Recipe() if label_set.spec.recipe is None else Recipe.from_json(label_set.spec.recipe)
    given: dict[str, Any] = {
        "architecture": arch,
        "epochs": epochs,
        "lr": lr,
        "batch_size": batch_size,
        "temperature": temperature,
        "ca": ca,
        "optimizer": optimizer,
        "weight_decay": weight_decay,
        "warmup_epochs": warmup_epochs,
        "ema": ema,
        "accumulate": accumulate,
        "precision": precision,
        "order": order,
        "augment_crop": augment_crop,
        "augment_flip": augment_flip,
        "hard_every": hard_every,
        "hard_weight": hard_weight,
    }
    changed = {key: value for key, value in given.items() if value is not None}
    recipe = Recipe.from_json({**base.to_json(), **changed})
    reference = label_set.spec.images
    bound = label_set.images_of(ImageSet.open(images, size=reference.size))

    def opened(path: str) -> ImageSet:
        return ImageSet.open(path, size=bound.size, class_names=bound.class_names, eval_resize_ratio=resize_ratio)

    test, validation = opened(evaluation), None if val is None else opened(val)
    decoded = label_set.labels
    held = bound.held_bytes + test.held_bytes + decoded.logits.num_bytes
    held += 0 if validation is None else validation.held_bytes
    with Reporter() as reporter, cluster(address, object_store_bytes=object_store_for(held)):
        values = train_students(
            bound,
            decoded,
            test,
            recipe,
            range(seed, seed + seeds),
            root / "train",
            validation=validation,
            workers=workers,
            save=None if save is None else save.absolute(),
            compile=compile_,  # type: ignore[arg-type]
            progress=reporter,
        )
    accuracy = Accuracy.of([value.test for value in values])
    chosen_by = [value.validation for value in values if value.validation is not None]
    document = {
        "accuracy": vars(accuracy),
        **({"val_accuracy": vars(Accuracy.of(chosen_by))} if chosen_by else {}),
        "label_bytes": label_set.num_bytes["total"],
        "image_bytes": reference.image_bytes,
        "recipe": recipe.to_json(),
    }
    text = f"accuracy {accuracy.mean:.2%} ± {accuracy.std:.2%} over {accuracy.n} seeds on {test.num_images} images"
    return Answer(document, text)


@teacher_app.command("fit")
@command
def fit(
    images: options.Images,
    evaluation: options.Evaluation,
    arch: Annotated[str, typer.Option("--arch", help="convnet, cifar_resnet20, tiny_resnet18, or any name of timm's.")],
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Passes over the images.")] = 30,
    out: Annotated[
        Path | None, typer.Option("--out", help="The checkpoint, .safetensors; default: teacher-ARCH under --root.")
    ] = None,
    save: Annotated[Path | None, typer.Option("--save", help="Also a folder that timm opens.")] = None,
    keep_every: Annotated[
        int | None,
        typer.Option("--keep-every", min=1, help="Also keep a checkpoint every N epochs, and the last (experts)."),
    ] = None,
    keep_at: Annotated[
        str | None,
        typer.Option("--keep-at", help="Also keep checkpoints after these epochs: 1,5,20, or log:8 for 8 in log time."),
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="How many, each from a seed of its own, on Ray.")] = 1,
    size: options.Size = None,
    lr: Annotated[float, typer.Option("--lr", help="Peak learning rate.")] = 3e-3,
    batch_size: Annotated[int, typer.Option("--batch-size", min=2, help="Images per step.")] = 128,
    address: options.Address = None,
    seed: options.Seed = 0,
    root: options.Root = Path("runs"),
) -> Answer:
    """Train a teacher from scratch, and keep checkpoints along the way (experts).

    After an interruption the same command goes on from where it was. With --seeds, the teachers are OUT-seed0,
    OUT-seed1 and so on. Examples:

    lpqld teacher fit --images digits:train --eval digits:test --arch convnet --out teacher.safetensors

    lpqld teacher fit --images digits:train --eval digits:test --arch convnet --keep-at log:8 --seeds 4 --out
    experts/digits.safetensors
    """
    from lpqld.images import ImageSet
    from lpqld.models import epochs_to_keep
    from sweeps.jobs import TeacherFit, fit_experts, seed_path
    from sweeps.report import Accuracy

    target = out or root / f"teacher-{arch}.safetensors"
    if target.suffix != ".safetensors":
        raise ConfigError(f"--out {target}: a checkpoint is written as .safetensors; choose such a name")
    if save is not None and seeds > 1:
        raise ConfigError("--save takes one teacher: leave out --seeds")
    if keep_every is not None and keep_at is not None:
        raise ConfigError("--keep-every and --keep-at both say which checkpoints are kept: choose one")
    kept_at = () if keep_at is None else epochs_to_keep(keep_at, epochs)
    if keep_every is not None:
        kept_at = epochs_to_keep(f"every:{keep_every}", epochs)
    opened = ImageSet.open(images, size=size)
    test = ImageSet.open(evaluation, size=opened.size, class_names=opened.class_names)
    with Reporter() as reporter:
        experts = fit_experts(
            opened,
            test,
            {seed: target} if seeds == 1 else {each: seed_path(target, each) for each in range(seed, seed + seeds)},
            TeacherFit(arch, epochs, lr, batch_size, kept_at),
            address=address,
            progress=reporter,
        )
    if seeds > 1:
        accuracy = Accuracy.of([expert.accuracy for expert in experts])
        text = f"{seeds} teachers beside {target}: test accuracy {accuracy.mean:.2%} ± {accuracy.std:.2%}"
        return Answer({"accuracy": vars(accuracy), "experts": [vars(expert) for expert in experts]}, text)
    (found,) = experts
    if save is not None:
        from lpqld.models import load_teacher, save_model

        fitted = load_teacher(target, image_class_names=opened.class_names)
        save_model(save, fitted.model, fitted.spec)
    kept = f", {len(found.checkpoints)} checkpoints beside it" if found.checkpoints else ""
    return Answer(vars(found), f"{found.path}: test accuracy {found.accuracy:.2%}{kept}")
