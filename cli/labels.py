"""`lpqld relabel`, `lpqld compress`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cli import options
from cli.extras import require_sweep_extra
from cli.output import Answer, Reporter, command, command_listing, facts
from lpqld.byte_sizes import format_bytes, parse_size
from lpqld.errors import ConfigError

K = Annotated[
    int | None, typer.Option("--k", min=1, help="Classes kept per label; default: all. Of lowrank: directions.")
]
Bits = Annotated[int, typer.Option("--bits", min=2, max=16, help="Bits per value; 16 is fp16.")]
Codec = Annotated[
    str | None,
    typer.Option(
        "--codec",
        help="How labels are encoded: topk (other classes get nothing), topk-min, topk-share, topk-tail (they get "
        "the label's minimum, an equal share at T = 4, or at any T), dense, lowrank, hard.",
    ),
]


def describe(label_set: Any) -> dict[str, Any]:
    """What every command says of a label set."""
    spec, num_bytes = label_set.spec, label_set.num_bytes
    return {
        "path": str(label_set.folder),
        "num_images": spec.num_images,
        "num_classes": spec.num_classes,
        "num_views": spec.num_views,
        "prune_ratio": spec.prune_ratio,
        "select": spec.select or "first",
        "codec": spec.codec.to_json(),
        "bytes": num_bytes,
        "bytes_per_view": num_bytes["total"] / spec.num_views,
        "image_bytes": spec.images.image_bytes,
        "labels_to_images": num_bytes["total"] / max(1, spec.images.image_bytes),
        "skipped": list(spec.images.skipped or ()),
    }


def labels_answer(label_set: Any) -> Answer:
    """A label set that was made."""
    document = describe(label_set)
    return Answer(document, facts({**document, "bytes": format_bytes(document["bytes"]["total"])}))


@command_listing(
    "images source views architecture out ipc size k bits codec batch_size workers skip_bad_images image_memory preset "
    "classes input_size mean std"
)
def relabel(
    images: options.Images,
    teacher: options.Teacher,
    views: Annotated[int, typer.Option("--views", min=1, help="Views per image.")],
    out: Annotated[
        str | None,
        typer.Option("--out", help="The label set's folder, a path or a URI; default: one under --root."),
    ] = None,
    ipc: options.Ipc = None,
    size: options.Size = None,
    k: K = None,
    bits: Bits = 16,
    codec: Codec = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="The teacher's batch.")] = 100,
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, help="Teachers at work at once."),
    ] = None,
    skip_bad_images: Annotated[
        bool,
        typer.Option("--skip-bad-images", help="Leave out images that cannot be decoded, and list them."),
    ] = False,
    image_memory: Annotated[
        str,
        typer.Option("--image-memory", help="Where decoded images lie: auto, device, shared, streamed (a file)."),
    ] = "auto",
    preset: Annotated[str | None, typer.Option("--preset", help="Draw views as this preset does.")] = None,
    address: options.Address = None,
    seed: options.Seed = 0,
    root: options.Root = Path("runs"),
) -> Answer:
    """Label views of images with a teacher, sharded over the Ray cluster; run again, it resumes.

    Views are crops, flips and CutMix unless --preset says otherwise. Example:

    lpqld relabel --images digits:train --ipc 10 --teacher teacher.safetensors --views 300 --preset digits --out labels
    """
    require_sweep_extra("lpqld relabel")
    from lpqld.images import parse_memory
    from lpqld.labels import specify
    from lpqld.models import choose_device
    from lpqld.storage import location
    from sweeps.cluster import cluster, object_store_for
    from sweeps.config import ImagesConfig, ViewsConfig, load_config
    from sweeps.jobs import open_images
    from sweeps.jobs import relabel as run

    rule = (ViewsConfig() if preset is None else load_config(preset).views).rule()
    memory = parse_memory(image_memory)
    images_config = ImagesConfig(source=images, ipc=ipc, size=size, seed=seed)
    opened = open_images(images_config, skip_bad=skip_bad_images, memory=memory)
    network = teacher.load(opened.class_names)
    spec = specify(
        network,
        opened,
        rule,
        views_per_image=views,
        seed=seed,
        batch_size=batch_size,
        codec=codec,
        k=k,
        bits=bits,
        device=choose_device(),
    )
    folder = location(out) if out else root / "labels" / spec.fingerprint[:16]
    with Reporter() as reporter, cluster(address, object_store_bytes=object_store_for(opened.held_bytes)):
        for name in opened.skipped:
            reporter.say(f"left out: {name}")
        label_set = run(
            network,
            opened,
            spec,
            folder,
            workers=workers,
            image_memory=memory,
            progress=reporter,
        )
    return labels_answer(label_set)


@command
def compress(
    src: Annotated[str, typer.Argument(metavar="SRC", help="A label set: a path or a URI.")],
    out: Annotated[str, typer.Argument(metavar="OUT", help="Folder of the smaller one: a path or a URI.")],
    prune_ratio: Annotated[
        float | None, typer.Option("--prune-ratio", help="Share of views not kept, in [0, 1), of those before pruning.")
    ] = None,
    budget: Annotated[str | None, typer.Option("--budget", help="Keep as many views as fit, such as 1MB.")] = None,
    codec: Codec = None,
    k: K = None,
    bits: Annotated[int | None, typer.Option("--bits", min=2, max=16, help="Bits per value; 16 is fp16.")] = None,
    select: Annotated[
        str,
        typer.Option(
            "--select",
            help="Which views of each image are kept: first (as SRC has them); confidence, entropy or classes (how "
            "many have more than 1/C): the highest at T = 1; with low- before it, as in low-entropy: the lowest.",
        ),
    ] = "first",
) -> Answer:
    """Prune and re-encode a label set.

    Every image keeps its first views, or those that --select prefers. Examples:

    lpqld compress labels small --prune-ratio 0.9 --k 5 --bits 4

    lpqld compress labels sure --budget 50KB --select confidence
    """
    from lpqld.labels import LabelSet, encode, fill_budget, reordered, smaller_codec

    if prune_ratio is not None and budget is not None:
        raise ConfigError("--prune-ratio and --budget both say how many views to keep; pass one of them")
    labels = reordered(LabelSet.open(src), select)
    chosen = smaller_codec(labels, name=codec, k=k, bits=bits)
    recipe = labels.spec.recipe
    if budget is not None:
        encoded = fill_budget(labels, chosen, parse_size(budget), recipe)
    else:
        encoded = encode(labels, chosen, num_views=_views_to_keep(labels.spec, prune_ratio, src), recipe=recipe)
    encoded.write(out)
    return labels_answer(LabelSet.open(out))


def _views_to_keep(spec: Any, prune_ratio: float | None, src: str) -> int:
    """How many views are left of all that there were before pruning.

    Raises:
        ConfigError: the label set holds fewer.
    """
    from lpqld.labels import keep_share

    if prune_ratio is None:
        return int(spec.num_views)
    wanted = keep_share(spec.num_images, spec.full_views, prune_ratio)
    if wanted > spec.num_views:
        raise ConfigError(
            f"--prune-ratio {prune_ratio} keeps {wanted} views; {src} holds {spec.num_views}, "
            f"a prune ratio of {spec.prune_ratio:.4f}"
        )
    return wanted
