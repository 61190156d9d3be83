"""`lpqld pareto`, `lpqld export`, `lpqld ui`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import options
from cli.extras import require_sweep_extra
from cli.output import Answer, Reporter, command
from lpqld.byte_sizes import format_bytes, parse_size
from lpqld.errors import ConfigError

if TYPE_CHECKING:
    from sweeps.export import ExportOptions

Experiment = Annotated[str, typer.Argument(metavar="EXPERIMENT", help="A sweep's --name (by default the preset's).")]


@command
def pareto(
    experiment: Experiment,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the front there as CSV, JSON, PNG, HTML and Markdown.")
    ] = None,
    root: options.Root = Path("runs"),
) -> Answer:
    """The front of a finished sweep: a table here, and as CSV and PNG in a folder."""
    require_sweep_extra("lpqld pareto")
    from sweeps.report import load_result, records, text_table, write_report

    result = load_result(root, experiment)
    folder = out or root / experiment / "report"
    write_report(result, folder)
    with Reporter() as reporter:
        reporter.say(f"front.csv, front.png, front.html: {folder}")
    return Answer({"experiment": experiment, "report": str(folder), "rows": records(result)}, text_table(result))


@command
def export(
    experiment: Experiment,
    out: Annotated[str, typer.Option("--out", help="A new folder: a path or a URI.")],
    budget: Annotated[
        str | None, typer.Option("--budget", help="The best label set of at most so many bytes, such as 50KB.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="The whole front, one sub-folder each.")] = False,
    export_format: Annotated[
        str,
        typer.Option(
            "--format", help="lpqld; parquet: a Hugging Face data set; fkd: the files of SRe2L, LPLD and LPQLD's code."
        ),
    ] = "lpqld",
    layout: Annotated[
        str, typer.Option("--layout", help="Of fkd: batches (LPQLD), or epochs, with a folder each (SRe2L, LPLD).")
    ] = "batches",
    with_images: Annotated[bool, typer.Option("--with-images", help="Of parquet: the images too.")] = False,
    licence: Annotated[
        str, typer.Option("--license", help="Of parquet's card: an identifier such as cc-by-4.0.")
    ] = "unknown",
    images: Annotated[
        str | None,
        typer.Option("--images", help="Those of a label set that is in no sweep, where its format needs them."),
    ] = None,
    root: options.Root = Path("runs"),
) -> Answer:
    """Write a sweep's best label set, or its whole front; or any label set, by its folder, in another format.

    Examples:

    lpqld export digits --budget 20KB --out digits-labels

    lpqld export imported-labels --format fkd --out for-the-reference
    """
    from lpqld.labels import MANIFEST_FILE
    from lpqld.storage import location
    from sweeps.export import ExportOptions, choose_points
    from sweeps.export import export as run
    from sweeps.report import load_result

    how = ExportOptions(layout, with_images, licence)
    if (location(experiment) / MANIFEST_FILE).is_file():
        if everything or budget is not None:
            raise ConfigError(f"{experiment} is one label set: --all and --budget choose among those of a sweep")
        return _export_labels(experiment, images, out, export_format, how)
    if everything and budget is not None:
        raise ConfigError("--all exports the whole front and --budget one label set; pass one of them")
    result = load_result(root, experiment)
    points = choose_points(result, None if budget is None else parse_size(budget), everything)
    written = run(result, points, out, export_format, root, how)
    return _exported(experiment, export_format, points, written)


def _exported(experiment: str, export_format: str, points: list[Any], written: list[Any]) -> Answer:
    """Label sets of a sweep that were written."""
    rows, lines = [], []
    for point, label_set in zip(points, written, strict=True):
        accuracy = point.accuracy
        rows.append(
            {
                "path": str(label_set.folder),
                "trial_id": point.trial_id,
                "label_bytes": point.label_bytes,
                "accuracy": vars(accuracy),
                "val_accuracy": point.val_accuracy,
            }
        )
        size = format_bytes(point.label_bytes)
        lines.append(f"{label_set.folder}: {size}, accuracy {accuracy.mean:.2%} ± {accuracy.std:.2%}")
    notes = sorted({note for label_set in written for note in label_set.notes})
    document = {"experiment": experiment, "format": export_format, "exported": rows, "notes": notes}
    return Answer(document, "\n".join([*lines, *notes]))


def _export_labels(source: str, images: str | None, out: str, export_format: str, how: "ExportOptions") -> Answer:
    """A label set that is in no sweep."""
    from lpqld.images import ImageSet
    from lpqld.labels import LabelSet
    from sweeps.export import export_labels

    def opened() -> ImageSet:
        if images is None:
            raise ConfigError(f"--format {export_format} of these labels renders their views: pass --images")
        return ImageSet.open(images, size=LabelSet.open(source).spec.images.size)

    written = export_labels(source, opened, out, export_format, how)
    document = {"labels": source, "format": export_format, "path": str(written.folder), "notes": list(written.notes)}
    return Answer(document, "\n".join([str(written.folder), *written.notes]))


@command
def ui(
    root: options.Root = Path("runs"),
    port: Annotated[int | None, typer.Option("--port", help="Port; default: 5000, or a free one.")] = None,
    host: Annotated[str, typer.Option("--host", help="Interface to listen on.")] = "127.0.0.1",
) -> Answer:
    """Serve MLflow's web UI of these results until Ctrl-C."""
    require_sweep_extra("lpqld ui")
    from sweeps.tracking import serve

    with Reporter() as reporter:
        exit_code = serve(root, port, host, announce=lambda url: reporter.say(f"{url} (Ctrl-C stops it)"))
    return Answer({"exit_code": exit_code}, "stopped", exit_code)
