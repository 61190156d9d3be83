"""The master label set of a sweep: made once for images, teacher and view rule, and found again by other sweeps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lpqld.errors import LpqldError
from lpqld.images import ImageSet
from lpqld.labels import MANIFEST_FILE, Labels, LabelSet, LabelSpec, ShardLabels, specify
from lpqld.models import Teacher
from lpqld.progress import SILENT, Progress
from lpqld.storage import Location, fingerprint, location
from sweeps.config import SweepConfig
from sweeps.jobs.relabel_shards import relabel

LABELS_FOLDER = "labels"


@dataclass(frozen=True)
class Master:
    """A finished label set that holds at least the labels of `spec`: the first ones of it are them."""

    spec: LabelSpec
    label_set: LabelSet

    @property
    def fingerprint(self) -> str:
        """Of the labels' very bytes: their checksums are in the manifest."""
        return fingerprint(self.label_set.manifest.to_bytes())

    def read(self) -> Labels:
        """The labels of `spec`, decoded and verified, fp16 as fp16."""
        return Labels.of_shards(self.spec, self._first_shards(), as_stored=True)

    def _first_shards(self) -> Iterator[ShardLabels]:
        left = self.spec.num_views
        for shard in self.label_set.shards():
            needed = slice(0, min(left, len(shard.logits.values)))
            yield ShardLabels(shard.logits.take(needed), None if shard.numbers is None else shard.numbers[needed])
            left -= needed.stop
            if not left:
                return


def make_master(
    config: SweepConfig,
    teacher: Teacher | None,
    images: ImageSet,
    root: Path,
    device: torch.device,
    progress: Progress = SILENT,
    phase: str = "relabel",
) -> Master:
    """Relabel on the connected Ray cluster, unless a set with these images, teacher and views is found, or is named.

    Sets are looked for, and made, in `relabel.folder`, by default `labels` in `root`. One with more views will do: the
    labels of fewer views are its first ones. `relabel.labels` names one, which may be imported.

    Raises:
        DataError: the named one is of other images.
    """
    if config.relabel.labels is not None:
        named = LabelSet.open(config.relabel.labels)
        named.images_of(images)
        progress.progress(phase, named.spec.num_shards, named.spec.num_shards)
        return Master(named.spec, named)
    assert teacher is not None, "require_data comes first"
    spec = specify(
        teacher,
        images,
        config.views.rule(),
        views_per_image=config.views_per_image,
        seed=config.seed,
        batch_size=config.relabel.batch_size,
        codec="dense" if config.relabel.k is None else "topk",
        k=config.relabel.k if config.relabel.k is None else min(config.relabel.k, images.num_classes),
        device=device,
        shard_views=config.relabel.shard_views,
    )
    folder = root / LABELS_FOLDER if config.relabel.folder is None else location(config.relabel.folder)
    label_set = _finished_set(spec, folder)
    if label_set is None:
        label_set = relabel(
            teacher,
            images,
            spec,
            folder / spec.fingerprint[:16],
            workers=config.relabel.workers,
            progress=progress,
            phase=phase,
        )
    else:
        progress.progress(phase, spec.num_shards, spec.num_shards)
    return Master(spec, label_set)


def _finished_set(spec: LabelSpec, folder: Location) -> LabelSet | None:
    """The smallest finished label set in `folder` that begins with the labels of `spec`."""
    candidates = []
    for path in folder.glob(f"*/{MANIFEST_FILE}"):
        try:
            label_set = LabelSet.open(path.parent)
        except LpqldError:  # whoever needs it hears of it
            continue
        if label_set.spec.num_views >= spec.num_views and _but_for_views(label_set.spec) == _but_for_views(spec):
            candidates.append(label_set)
    return min(candidates, key=lambda each: (each.spec.num_views, str(each.folder)), default=None)


def _but_for_views(spec: LabelSpec) -> dict[str, Any]:
    # Shards are whole batches, so that their length does not change a label.
    return {**spec.to_json(), "num_views": None, "full_views": None, "shard_views": None, "recipe": None}
