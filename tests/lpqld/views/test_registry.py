"""Which source of views a label set has, and what all sources promise."""

import json

import numpy as np
import pytest

from lpqld.errors import ConfigError
from lpqld.images.image_set import ImageSet
from lpqld.storage.paths import Location
from lpqld.storage.strict_json import Fields
from lpqld.views.drawn import DrawnSource
from lpqld.views.recorded import RecordedSource
from lpqld.views.registry import DRAWN, RECORDED, VIEW_FILES, drawn_by, format_versions, read_views
from lpqld.views.rule import RULE_VERSION, ViewRule
from lpqld.views.source import ViewSource
from tests.lpqld.views.test_table import table, ten_digits

RULE = ViewRule(mix="none")


def recorded(seed: int = 4) -> RecordedSource:
    return RecordedSource(RULE, 0, table(seed, uneven=False))


def num_labels(source: ViewSource) -> int:
    return len(source.table) if isinstance(source, RecordedSource) else 20


def images_of(source: ViewSource) -> ImageSet:
    count = source.table.num_images if isinstance(source, RecordedSource) else 5
    return ten_digits().take(np.arange(count))


every_source = pytest.mark.parametrize(
    "source", [DrawnSource(RULE, 3), DrawnSource(ViewRule(), 3), recorded()], ids=["drawn", "mixed", "recorded"]
)


def test_every_member_has_its_versions():
    assert RULE_VERSION in DRAWN
    assert format_versions(with_files=False) == (1,)
    assert format_versions(with_files=True) == (1, 2)
    assert all(member.format_version == version for version, member in RECORDED.items())
    assert not any(member.file_names for member in DRAWN.values())
    assert {"views.lpqld"} == VIEW_FILES


def test_a_rule_of_an_unknown_version_is_refused():
    with pytest.raises(ConfigError, match="drawn by rule version 2; this lpqld knows 1"):
        drawn_by(ViewRule(version=2), 5)
    assert drawn_by(RULE, 5) == DrawnSource(RULE, 5)


@every_source
def test_what_is_written_is_read_back(source, tmp_path):
    for name, content in source.files().items():
        (tmp_path / name).write_bytes(content)
    entry = source.manifest_entry()
    document = {} if entry is None else {"views": entry}
    fields = Fields(json.loads(json.dumps(document)))
    folder: Location = tmp_path
    again = read_views(source.format_version, source.rule, source.seed, fields, folder)
    fields.finish()
    assert again == source
    assert (again.files(), again.manifest_entry()) == (source.files(), entry)
    assert set(source.files()) == set(source.file_names) <= VIEW_FILES


@every_source
def test_an_order_needs_no_pixels_and_agrees_with_the_views(source):
    images = images_of(source)
    order, views = source.order(images.ids, images.labels.numpy()), source.of(images)
    positions = np.arange(num_labels(source))
    rows, numbers = order.rows_and_numbers(positions)
    assert (rows.tolist(), numbers.tolist()) == tuple(part.tolist() for part in views.rows_and_numbers(positions))
    assert order.classes(rows, numbers)[:, 0].tolist() == images.labels.numpy()[rows].tolist()
    assert views.draw(positions).rows.tolist() == rows.tolist()
    assert views.source == source


@every_source
def test_keys_tell_views_apart_and_stay_in_a_smaller_set(source):
    images, count = images_of(source), num_labels(source)
    keys = source.order(images.ids, images.labels.numpy()).keys(np.arange(count))
    fewer = count - 3
    smaller = source.first(fewer).order(images.ids, images.labels.numpy()).keys(np.arange(fewer))
    assert smaller.tolist() == keys[:fewer].tolist()
    assert len(np.unique(keys)) == count


@every_source
def test_view_numbers_count_the_views_of_an_image(source):
    images, count = images_of(source), num_labels(source)
    numbers = source.view_numbers(images.num_images, count)
    rows, _ = source.order(images.ids, images.labels.numpy()).rows_and_numbers(np.arange(count))
    for row in np.unique(rows):
        assert sorted(numbers[rows == row].tolist()) == list(range((rows == row).sum()))


@every_source
def test_recorded_batches_are_of_recorded_views_alone(source):
    views = source.of(images_of(source))
    if source.redrawable:
        with pytest.raises(ConfigError, match="order recorded: these labels were drawn by lpqld"):
            views.recorded_batches(0)
    else:
        assert len(views.recorded_batches(0)) == 1


@every_source
def test_a_table_has_the_labels_in_batches(source):
    if not source.in_batches:
        return
    images, count = images_of(source), num_labels(source)
    found, positions = source.as_table(lambda: source.of(images), count, 4)
    assert found.labelled.all()
    assert sorted(positions.tolist()) == list(range(count))
    rows, _ = source.order(images.ids, images.labels.numpy()).rows_and_numbers(positions)
    assert found.rows.tolist() == rows.tolist()


def test_imported_views_need_no_images_for_their_table():
    def images() -> ImageSet:
        raise AssertionError("images were opened")

    source = recorded()
    assert source.as_table(images, num_labels(source), 4).table is source.table  # type: ignore[arg-type]
