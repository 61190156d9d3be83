"""`lpqld teacher fit`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cli import options
from cli.extras import require_sweep_extra
from cli.output import Answer, Reporter, command
from lpqld.errors import ConfigError

teacher_app = typer.Typer(help="Train teachers.", no_args_is_help=True)


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
    require_sweep_extra("lpqld teacher fit")
    from lpqld.images import ImageSet
    from sweeps.jobs import TeacherFit, fit_experts, seed_path

    target = out or root / f"teacher-{arch}.safetensors"
    if target.suffix != ".safetensors":
        raise ConfigError(f"--out {target}: a checkpoint is written as .safetensors; choose such a name")
    if save is not None and seeds > 1:
        raise ConfigError("--save takes one teacher: leave out --seeds")
    recipe = TeacherFit(arch, epochs, lr, batch_size, _epochs_to_keep(keep_every, keep_at, epochs))
    opened = ImageSet.open(images, size=size)
    test = ImageSet.open(evaluation, size=opened.size, class_names=opened.class_names)
    paths = {seed: target} if seeds == 1 else {each: seed_path(target, each) for each in range(seed, seed + seeds)}
    with Reporter() as reporter:
        experts = fit_experts(
            opened,
            test,
            paths,
            recipe,
            address=address,
            progress=reporter,
        )
    if save is not None:
        _save_for_timm(save, target, opened.class_names)
    return _one(experts[0]) if seeds == 1 else _several(experts, target)


def _epochs_to_keep(every: int | None, at: str | None, epochs: int) -> tuple[int, ...]:
    """The epochs after which checkpoints are kept."""
    from lpqld.models import epochs_to_keep

    if every is not None and at is not None:
        raise ConfigError("--keep-every and --keep-at both say which checkpoints are kept: choose one")
    text = at if every is None else f"every:{every}"
    return () if text is None else epochs_to_keep(text, epochs)


def _save_for_timm(folder: Path, checkpoint: Path, class_names: tuple[str, ...]) -> None:
    from lpqld.models import load_teacher, save_model

    fitted = load_teacher(checkpoint, image_class_names=class_names)
    save_model(folder, fitted.model, fitted.spec)


def _one(expert: Any) -> Answer:
    checkpoints = f", {len(expert.checkpoints)} checkpoints beside it" if expert.checkpoints else ""
    return Answer(vars(expert), f"{expert.path}: test accuracy {expert.accuracy:.2%}{checkpoints}")


def _several(experts: list[Any], target: Path) -> Answer:
    from sweeps.report import Accuracy

    accuracy = Accuracy.of([expert.accuracy for expert in experts])
    text = f"{len(experts)} teachers beside {target}: test accuracy {accuracy.mean:.2%} ± {accuracy.std:.2%}"
    return Answer({"accuracy": vars(accuracy), "experts": [vars(expert) for expert in experts]}, text)
