"""`lpqld import`."""

from pathlib import Path
from typing import Annotated

import typer

from cli import options
from cli.labels import describe, facts
from cli.output import Answer, Reporter, command
from lpqld.errors import ConfigError
from lpqld.sizes import format_bytes

FORMATS = ("fkd",)


@command
def import_(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="A label folder of another project.")],
    out: Annotated[str, typer.Argument(metavar="OUT", help="Folder of the label set: a path or a URI.")],
    images: options.Images,
    format_: Annotated[
        str,
        typer.Option(
            "--format", help="fkd: batch_*.tar or epoch_*/batch_*.tar, as SRe2L, CDA, LPLD, LPQLD and others write."
        ),
    ] = "fkd",
    size: options.Size = None,
    sampler_seed: Annotated[
        int,
        typer.Option("--sampler-seed", min=0, help="Of the sampler, where the folder does not say the order."),
    ] = 42,
) -> Answer:
    """Read another project's labels, losslessly, with the parameters of every view; nothing in them is executed.

    --images are those that the labels were made for, class folders and files in the order of their names. Example:

    lpqld import FKD_cutmix_fp16 labels --format fkd --images syn-imagenet --size 224

    lpqld compress labels small --k 10 --bits 5
    """
    from lpqld.fkd_import import import_fkd
    from lpqld.images import ImageSet
    from lpqld.location import location

    if format_ not in FORMATS:
        raise ConfigError(f"--format {format_}: expected {' or '.join(FORMATS)}")
    opened = ImageSet.open(images, size=size)
    with Reporter() as reporter:
        found = import_fkd(
            source,
            opened,
            location(out),
            seed=sampler_seed,
            progress=lambda done, total: reporter.progress("import", done, total),
        )
        if found.agreement < 10 / opened.num_classes and opened.num_classes > 20:
            reporter.say(
                f"the largest logit is of the image's class, or of that of the image mixed into it, in "
                f"{found.agreement:.1%} of the labels: little more than a guess. Are classes in the order of the "
                f"teacher's? Expected {opened.class_names[0]!r}, {opened.class_names[1]!r} and so on"
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
