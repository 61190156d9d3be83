"""What decides a label set's content; its manifest holds it, docs/label-format.md says how.

A specification is checked when it is made, so one that was read from a manifest is within the format's limits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lpqld.codecs import Codec, codec_from_json
from lpqld.errors import ConfigError, DataError
from lpqld.labels.provenance import ImagesRef, TeacherRef, without_none
from lpqld.storage import Fields, canonical_json, fingerprint, is_plain, is_text
from lpqld.views import MAX_TABLE_BYTES, StoredOrder, ViewOrder, ViewRule, ViewTable

FORMAT = "lpqld-labels"
DRAWN, STORED = 1, 2  # versions: views follow from a rule, or stand in a table
MAX_CLASSES, MAX_IMAGES = 2**24, 2**24
MAX_SHARDS, MAX_SHARD_VIEWS = 2**17, 2**20
MAX_SHARD_LOGITS = 2**28  # ids and values of a decoded shard are then at most 2 GiB
_MAX_INTEGER = 2**31 - 1

ReadTable = Callable[[int, str], ViewTable]


@dataclass(frozen=True)
class LabelSpec:
    """Everything that decides a label set's content, and the student recipe that earned it its place.

    Attributes:
        num_images, num_classes: of the image set.
        num_views: labels in all; position p is view p // num_images of image order[p % num_images] (views.Views),
            or, with `select`, the view that its shard says.
        full_views: views per image before pruning, what `prune_ratio` refers to.
        seed: of the views.
        batch_size: the teacher's batches; they are part of what makes a repeated job byte-identical.
        shard_views: labels per shard.
        select: what the views of each image are in the order of (`select.reordered`); None where that is their number.
        recipe: the student recipe, or None.
        table: of views that were drawn elsewhere (version 2); then position p is view `table.order[p]`, and rule, seed
            and batch size only describe.
    """

    num_images: int
    num_classes: int
    num_views: int
    full_views: int
    codec: Codec
    view_rule: ViewRule
    seed: int
    batch_size: int
    shard_views: int
    images: ImagesRef
    teacher: TeacherRef
    recipe: dict[str, Any] | None = None
    select: str | None = None
    table: ViewTable | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        _check("num_images", self.num_images, 1, MAX_IMAGES)
        _check("num_classes", self.num_classes, 2, MAX_CLASSES)
        _check("full_views", self.full_views, 1, _MAX_INTEGER)
        _check("num_views", self.num_views, self.num_images, self.num_images * self.full_views)
        _check("seed", self.seed, 0, 2**64 - 1)
        _check("batch_size", self.batch_size, 1, _MAX_INTEGER)
        _check("shard_views", self.shard_views, 1, MAX_SHARD_VIEWS)
        kept = self.codec.kept(self.num_classes)
        _check("codec.k", kept, 1, self.num_classes)
        if self.num_shards > MAX_SHARDS or min(self.shard_views, self.num_views) * kept > MAX_SHARD_LOGITS:
            raise ConfigError(
                f"{self.num_views} labels of {kept} classes in shards of shard_views={self.shard_views}: a set has at "
                f"most {MAX_SHARDS} shards, each of at most {MAX_SHARD_LOGITS} logits"
            )
        if self.select is not None and not is_text(self.select):
            raise ConfigError(f"select must be printable text, found {self.select!r:.60}")
        if self.recipe is not None:
            _check_recipe(self.recipe)
        if self.table is not None:
            self._check_table(self.table)

    def _check_table(self, table: ViewTable) -> None:
        """Refuse a table that is another set's."""
        found = table.num_images, table.side, len(table.order)
        if found != (self.num_images, self.images.size, self.num_views):
            raise ConfigError(
                f"a table of views of {found[0]} images of {found[1]} pixels with {found[2]} labels, for a set of "
                f"{self.num_images} images of {self.images.size} pixels with {self.num_views}"
            )
        if self.select is not None:
            raise ConfigError("select says which views were kept; a table of views says so itself")

    @property
    def version(self) -> int:
        """Of the format."""
        return DRAWN if self.table is None else STORED

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

    @cached_property
    def _view_order(self) -> ViewOrder | StoredOrder:
        if self.table is not None:
            return StoredOrder(self.table, self.image_classes)
        return ViewOrder(self.image_ids, self.image_classes, self.view_rule, self.seed)

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
            "views": self.table and {"bytes": len(self.table.content), "sha256": self.table.sha256},
        }
        return without_none(document)

    @classmethod
    def from_json(cls, document: object, read_views: ReadTable | None = None) -> LabelSpec:
        """The inverse of `to_json`.

        Args:
            document: version 1, or with `read_views` version 2.
            read_views: reads the table of so many bytes and that checksum.

        Raises:
            DataError: any value is of another type, out of range or unknown, or not written as `to_json` writes it.
        """
        try:
            spec = cls._read(Fields(document), read_views)
        except ConfigError as error:
            raise DataError(str(error)) from error
        if canonical_json(spec.to_json()) != canonical_json(document):
            raise DataError("a value is not written in the one way that the format allows, such as 1 for true")
        return spec

    @classmethod
    def _read(cls, fields: Fields, read_views: ReadTable | None) -> LabelSpec:
        if (found := fields.text("format")) != FORMAT:
            raise DataError(f"format must be {FORMAT!r}, found {found!r}")
        version = DRAWN if read_views is None else STORED
        fields.integer("version", version, version)
        num_images = fields.integer("num_images", 1, MAX_IMAGES)
        num_classes = fields.integer("num_classes", 2, MAX_CLASSES)
        spec = cls(
            num_images=num_images,
            num_classes=num_classes,
            num_views=fields.integer("num_views", num_images, num_images * _MAX_INTEGER),
            full_views=fields.integer("full_views", 1, _MAX_INTEGER),
            codec=codec_from_json(fields.value("codec")),
            view_rule=ViewRule.from_json(fields.fields("view_rule")),
            seed=fields.integer("seed", 0, 2**64 - 1),
            batch_size=fields.integer("batch_size", 1, _MAX_INTEGER),
            shard_views=fields.integer("shard_views", 1, MAX_SHARD_VIEWS),
            images=ImagesRef.from_json(fields.fields("images"), num_images, num_classes),
            teacher=TeacherRef.from_json(fields.fields("teacher")),
            recipe=fields.value("recipe") if "recipe" in fields else None,
            select=fields.text("select") if "select" in fields else None,
            table=None if read_views is None else _read_views(fields.fields("views"), read_views),
        )
        fields.finish()
        return spec


def _read_views(fields: Fields, read_views: ReadTable) -> ViewTable:
    table = read_views(fields.integer("bytes", 1, MAX_TABLE_BYTES), fields.digest("sha256"))
    fields.finish()
    return table


def _check(name: str, value: object, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        raise ConfigError(f"{name} must be a whole number from {low} to {high}, found {value!r}")


def _check_recipe(recipe: object) -> None:
    def is_value(value: object) -> bool:
        return is_plain(value) or (isinstance(value, list) and len(value) <= 16 and all(map(is_plain, value)))

    if not isinstance(recipe, dict) or len(recipe) > 64 or not all(map(is_plain, recipe)):
        raise ConfigError("recipe must be an object of at most 64 fields")
    if bad := [name for name, value in recipe.items() if not is_value(value)]:
        raise ConfigError(f"recipe.{bad[0]} must be text, a number, true, false, or a short list of them")
