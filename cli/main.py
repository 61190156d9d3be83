"""The `lpqld` command."""

import os
import sys
from typing import Annotated

import typer

from cli import inspect, interop, labels, results, study, sweep, synthesize, teacher, train
from cli.output import INTERRUPTED
from lpqld._malloc import keep_freed_memory
from lpqld.version import __version__

app = typer.Typer(
    name="lpqld",
    help="Small soft labels for dataset distillation. Start with `lpqld sweep digits`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Small soft labels for dataset distillation. Start with `lpqld sweep digits`."""


app.command()(sweep.sweep)
app.command()(sweep.presets)
app.command()(sweep.plan)
app.add_typer(teacher.teacher_app, name="teacher")
app.command()(synthesize.synthesize)
app.command()(labels.relabel)
app.command()(labels.compress)
app.command("import")(interop.import_)
app.command()(train.train)
app.command()(inspect.inspect)
app.command()(inspect.verify)
app.command()(results.pareto)
app.command()(study.study)
app.command()(results.export)
app.command()(results.ui)


def main() -> None:
    """Entry point of the `lpqld` script."""
    keep_freed_memory()
    try:
        app()
    except SystemExit as ending:
        if ending.code != INTERRUPTED:
            raise
        # Libraries that were interrupted anywhere may wait for ever while Python ends; what is finished is on disk.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
