"""A specification from the JSON of a manifest, checked as strictly as files from anywhere must be."""

from __future__ import annotations

from lpqld.codecs import codec_from_json
from lpqld.errors import ConfigError, DataError
from lpqld.labels.limits import MAX_CLASSES, MAX_IMAGES, MAX_INTEGER, MAX_SEED, MAX_SHARD_VIEWS
from lpqld.labels.provenance import ImagesRef, TeacherRef
from lpqld.labels.spec import FORMAT, LabelSpec
from lpqld.storage import Fields, Location, canonical_json
from lpqld.views import ViewRule, format_versions, read_views


def read_spec(document: object, folder: Location | None = None) -> LabelSpec:
    """The inverse of `LabelSpec.to_json`.

    Args:
        document: of JSON values.
        folder: of the label set; without it, only sets whose views have no files of their own are read.

    Raises:
        DataError: any value is of another type, out of range or unknown, or not written as `to_json` writes it.
    """
    try:
        spec = _read(Fields(document), folder)
    except ConfigError as error:
        raise DataError(str(error)) from error
    if canonical_json(spec.to_json()) != canonical_json(document):
        raise DataError("a value is not written in the one way that the format allows, such as 1 for true")
    return spec


def _read(fields: Fields, folder: Location | None) -> LabelSpec:
    if (name := fields.text("format")) != FORMAT:
        raise DataError(f"format must be {FORMAT!r}, found {name!r}")
    versions = format_versions(with_files=folder is not None)
    version = fields.integer("version", min(versions), max(versions))
    num_images = fields.integer("num_images", 1, MAX_IMAGES)
    num_classes = fields.integer("num_classes", 2, MAX_CLASSES)
    num_views = fields.integer("num_views", num_images, num_images * MAX_INTEGER)
    full_views = fields.integer("full_views", 1, MAX_INTEGER)
    codec = codec_from_json(fields.value("codec"))
    rule = ViewRule.from_json(fields.fields("view_rule"))
    seed = fields.integer("seed", 0, MAX_SEED)
    spec = LabelSpec(
        num_images=num_images,
        num_classes=num_classes,
        num_views=num_views,
        full_views=full_views,
        codec=codec,
        batch_size=fields.integer("batch_size", 1, MAX_INTEGER),
        shard_views=fields.integer("shard_views", 1, MAX_SHARD_VIEWS),
        images=ImagesRef.from_json(fields.fields("images"), num_images, num_classes),
        teacher=TeacherRef.from_json(fields.fields("teacher")),
        recipe=fields.value("recipe") if "recipe" in fields else None,
        select=fields.text("select") if "select" in fields else None,
        views=read_views(version, rule, seed, fields, folder),
    )
    fields.finish()
    return spec
