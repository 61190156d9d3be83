"""`lpqld study`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cli import options
from cli.extras import require_sweep_extra
from cli.output import Answer, Reporter, command
from sweeps.studies import STUDY_NAMES

_SETTING_OF = {
    "images": "images",
    "evaluation": "eval.source",
    "val": "eval.val",
    "size": "size",
    "ipc": "ipc",
    "experts": "experts.source",
    "expert_arch": "experts.architecture",
    "expert_epochs": "experts.epochs",
    "expert_seeds": "experts.seeds",
    "arch": "student.architecture",
    "epochs": "student.epochs",
    "seeds": "seeds",
    "seed": "seed",
}


@command
def study(
    name: Annotated[str, typer.Argument(metavar="NAME", help=f"{', '.join(STUDY_NAMES[:-1])} or {STUDY_NAMES[-1]}.")],
    images: Annotated[
        str | None, typer.Option("--images", help=f"Real images, of which students see a few. {options.IMAGES_HELP}")
    ] = None,
    evaluation: Annotated[
        str | None, typer.Option("--eval", help="Test images; without --val, half of them are the validation images.")
    ] = None,
    val: Annotated[str | None, typer.Option("--val", help="Validation images, which choose.")] = None,
    ipc: Annotated[
        list[int] | None, typer.Option("--ipc", min=1, help="Images of each class. Repeatable; default: 1, 10, 50.")
    ] = None,
    size: options.Size = None,
    experts: Annotated[
        str | None,
        typer.Option(
            "--experts",
            help="Finished teachers with checkpoints beside them, such as 'experts/digits-seed*.safetensors'; default: "
            "fitted here.",
        ),
    ] = None,
    expert_arch: Annotated[str | None, typer.Option("--expert-arch", help="Of experts fitted here.")] = None,
    expert_epochs: Annotated[int | None, typer.Option("--expert-epochs", min=1, help="Of experts fitted here.")] = None,
    expert_seeds: Annotated[int | None, typer.Option("--expert-seeds", min=1, help="How many are fitted here.")] = None,
    arch: options.Arch = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Of students.")] = None,
    seeds: Annotated[
        int | None, typer.Option("--seeds", min=1, help="Students of each case, each on images of its own.")
    ] = None,
    config: Annotated[str | None, typer.Option("--config", help="A YAML file with any settings.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any setting, such as student.lr=0.004 or temperatures=[1,4]. Repeatable."),
    ] = None,
    address: options.Address = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Of images and experts.")] = None,
    root: options.Root = Path("runs"),
) -> Answer:
    """Ask what is in a soft label: random real images, one label each, by experts as they learn.

    The baseline of "A Label is Worth a Thousand Images". Results are in MLflow, with a table and a figure in
    ROOT/studies/NAME; after an interruption the same command goes on. Example:

    lpqld study expert-epoch --images digits:train --eval digits:test --val digits:val
    """
    require_sweep_extra("lpqld study")
    from sweeps.cluster import cluster
    from sweeps.config import load_study_config, parse_settings
    from sweeps.studies import FIGURE_FILE, document, markdown, study_named, study_recorded

    asked = study_named(name)
    given: dict[str, Any] = {
        key: value for key, value in locals().items() if key in _SETTING_OF and value not in (None, [])
    }
    settings = {**parse_settings(set_ or []), **{_SETTING_OF[key]: value for key, value in given.items()}}
    study_config = load_study_config(config, settings)
    with Reporter() as reporter, cluster(address):
        results = study_recorded(asked, study_config, root, progress=reporter)
    folder = root / "studies" / name
    text = f"{markdown(asked, results)}\nfigure: {folder / FIGURE_FILE}"
    return Answer({**document(asked, results), "folder": str(folder)}, text)
