"""`lpqld pareto`, `lpqld export`, `lpqld ui`."""

from pathlib import Path
from typing import Annotated

import typer

from cli import options
from cli.output import Answer, Reporter, command
from lpqld.errors import ConfigError
from lpqld.sizes import format_bytes, parse_size

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
    from sweeps.report import records, text_table, write_report
    from sweeps.result import load_result

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
    export_format: Annotated[str, typer.Option("--format", help="lpqld, or parquet: plain columns.")] = "lpqld",
    root: options.Root = Path("runs"),
) -> Answer:
    """Write a sweep's best label set, or its whole front.

    Example: lpqld export digits --budget 20KB --out digits-labels
    """
    from sweeps.export import choose_points
    from sweeps.export import export as run
    from sweeps.result import load_result

    if everything and budget is not None:
        raise ConfigError("--all exports the whole front and --budget one label set; pass one of them")
    result = load_result(root, experiment)
    points = choose_points(result, None if budget is None else parse_size(budget), everything)
    folders = run(result, points, out, export_format, root)
    rows = [
        {
            "path": str(folder),
            "trial_id": point.trial_id,
            "label_bytes": point.label_bytes,
            "accuracy": vars(point.accuracy),
            "val_accuracy": point.val_accuracy,
        }
        for folder, point in zip(folders, points, strict=True)
    ]
    lines = [
        f"{folder}: {format_bytes(point.label_bytes)}, accuracy {point.accuracy.mean:.2%} ± {point.accuracy.std:.2%}"
        for folder, point in zip(folders, points, strict=True)
    ]
    return Answer({"experiment": experiment, "format": export_format, "exported": rows}, "\n".join(lines))


@command
def ui(
    root: options.Root = Path("runs"),
    port: Annotated[int | None, typer.Option("--port", help="Port; default: 5000, or a free one.")] = None,
    host: Annotated[str, typer.Option("--host", help="Interface to listen on.")] = "127.0.0.1",
) -> Answer:
    """Serve MLflow's web UI of these results until Ctrl-C."""
    from sweeps.ui import serve

    with Reporter() as reporter:
        exit_code = serve(root, port, host, announce=lambda url: reporter.say(f"{url} (Ctrl-C stops it)"))
    return Answer({"exit_code": exit_code}, "stopped", exit_code)
