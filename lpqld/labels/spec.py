"""What decides a label set's content; its manifest holds it, docs/label-format.md says how.

A specification is checked when it is made, so one that was read from a manifest is within the format's limits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lpqld.codecs import Codec
from lpqld.errors import ConfigError
from lpqld.labels.limits import (
    MAX_CLASSES,
    MAX_IMAGES,
    MAX_INTEGER,
    MAX_SEED,
    MAX_SHARD_LOGITS,
    MAX_SHARD_VIEWS,
    MAX_SHARDS,
    check_integer,
    check_recipe,
)
from lpqld.labels.provenance import ImagesRef, TeacherRef, without_none
from lpqld.storage import canonical_json, fingerprint, is_text
from lpqld.views import ViewOrder, ViewRule, ViewSource

FORMAT = "lpqld-labels"


@dataclass(frozen=True)
class LabelSpec:
    """Everything that decides a label set's content, and the student recipe that earned it its place.

    Attributes:
        num_images, num_classes: of the image set.
        num_views: labels in all; `view_order` says which views they are of or, with `select`, each shard.
        full_views: views per image before pruning, what `prune_ratio` refers to.
        views: where the views come from.
        batch_size: the teacher's batches; they are part of what makes a repeated job byte-identical.
        shard_views: labels per shard.
        select: what the views of each image are in the order of (`select.reordered`); None where that is their number.
        recipe: the student recipe, or None.
    """

    num_images: int
    num_classes: int
    num_views: int
    full_views: int
    codec: Codec
    views: ViewSource
    batch_size: int
    shard_views: int
    images: ImagesRef
    teacher: TeacherRef
    recipe: dict[str, Any] | None = None
    select: str | None = None

    def __post_init__(self) -> None:
        check_integer("num_images", self.num_images, 1, MAX_IMAGES)
        check_integer("num_classes", self.num_classes, 2, MAX_CLASSES)
        check_integer("full_views", self.full_views, 1, MAX_INTEGER)
        check_integer("num_views", self.num_views, self.num_images, self.num_images * self.full_views)
        check_integer("seed", self.seed, 0, MAX_SEED)
        check_integer("batch_size", self.batch_size, 1, MAX_INTEGER)
        check_integer("shard_views", self.shard_views, 1, MAX_SHARD_VIEWS)
        kept = self.codec.kept(self.num_classes)
        check_integer("codec.k", kept, 1, self.num_classes)
        if self.num_shards > MAX_SHARDS or min(self.shard_views, self.num_views) * kept > MAX_SHARD_LOGITS:
            raise ConfigError(
                f"{self.num_views} labels of {kept} classes in shards of shard_views={self.shard_views}: a set has at "
                f"most {MAX_SHARDS} shards, each of at most {MAX_SHARD_LOGITS} logits"
            )
        if self.select is not None and not is_text(self.select):
            raise ConfigError(f"select must be printable text, found {self.select!r:.60}")
        if self.recipe is not None:
            check_recipe(self.recipe)
        self.views.check(
            num_images=self.num_images,
            side=self.images.size,
            num_views=self.num_views,
            selected=self.select is not None,
        )

    @property
    def version(self) -> int:
        """Of the format."""
        return self.views.format_version

    @property
    def view_rule(self) -> ViewRule:
        """The distribution that the views were drawn from."""
        return self.views.rule

    @property
    def seed(self) -> int:
        """Of the views."""
        return self.views.seed

    @property
    def prune_ratio(self) -> float:
        """Share of views not kept, in [0, 1)."""
        return 1 - self.num_views / (self.num_images * self.full_views)

    @property
    def num_shards(self) -> int:
        """How many shards hold the labels."""
        return -(-self.num_views // self.shard_views)

    def views_in_shard(self, index: int) -> int:
        """Labels in one shard: `shard_views`, but for the last."""
        return min(self.shard_views, self.num_views - index * self.shard_views)

    @property
    def shard_sizes(self) -> list[int]:
        """Labels in each shard."""
        return [self.views_in_shard(index) for index in range(self.num_shards)]

    @cached_property
    def fingerprint(self) -> str:
        """Of everything that decides the labels; the recipe does not."""
        return fingerprint(canonical_json(replace(self, recipe=None).to_json()))

    @cached_property
    def image_ids(self) -> NDArray[np.int64]:
        """The id of each image [N]."""
        return self.images.image_ids(self.num_images)

    @cached_property
    def image_classes(self) -> NDArray[np.int32]:
        """The class of each image [N]."""
        return self.images.image_classes(self.num_images, self.num_classes)

    @property
    def view_bytes(self) -> int:
        """Bytes of the files that views have beside the shards."""
        return sum(map(len, self.views.files().values()))

    @property
    def number_bits(self) -> int:
        """Bits that a shard spends on the number of each label's view: none where its position says it."""
        return 0 if self.select is None else (self.full_views - 1).bit_length()

    def hints_in_shard(self, index: int, numbers: NDArray[np.int64] | None = None) -> NDArray[np.int32]:
        """What codecs may know of each label in a shard: its image's class and its partner's (`ViewOrder.classes`).

        Args:
            index: of the shard.
            numbers: those of its labels' views, where they were selected.
        """
        assert (numbers is None) == (self.select is None)
        start = index * self.shard_views
        rows, views = self._view_order.rows_and_numbers(np.arange(start, start + self.views_in_shard(index)))
        return self._view_order.classes(rows, views if numbers is None else numbers)

    @cached_property
    def image_rows(self) -> NDArray[np.int64]:
        """The image of each label, by its row in the set, [num_views]."""
        return self._view_order.rows_and_numbers(np.arange(self.num_views))[0]

    def image_classes_at(self, positions: NDArray[np.int64]) -> NDArray[np.int32]:
        """The class of the image of each label at `positions` [B]."""
        rows, _ = self._view_order.rows_and_numbers(positions)
        return self.image_classes[rows]

    def view_order(self, numbers: NDArray[np.int64] | None = None) -> ViewOrder:
        """Which view each label is of; `numbers` of the views, [num_views], where they were selected."""
        return self.views.order(self.image_ids, self.image_classes, numbers)

    @cached_property
    def _view_order(self) -> ViewOrder:
        return self.view_order()

    def to_json(self) -> dict[str, Any]:
        """The manifest without its shards; what is None is left out."""
        document = {
            "format": FORMAT,
            "version": self.version,
            "num_images": self.num_images,
            "num_classes": self.num_classes,
            "num_views": self.num_views,
            "full_views": self.full_views,
            "codec": self.codec.to_json(),
            "view_rule": self.view_rule.to_json(),
            "seed": self.seed,
            "batch_size": self.batch_size,
            "shard_views": self.shard_views,
            "images": self.images.to_json(),
            "teacher": self.teacher.to_json(),
            "recipe": self.recipe,
            "select": self.select,
            "views": self.views.manifest_entry(),
        }
        return without_none(document)
