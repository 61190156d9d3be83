import pickle
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from lpqld.codecs.dense import Dense
from lpqld.codecs.hard import Hard
from lpqld.codecs.topk import TopK
from lpqld.errors import ConfigError, DataError
from lpqld.images.image_set import ImageSet
from lpqld.labels.compress import encode, recode
from lpqld.labels.label_set import Labels, LabelSet
from lpqld.labels.select import reordered
from lpqld.models.architectures import build
from lpqld.training.dataset import LabelBatch, ViewDataset, ViewSampler
from lpqld.training.recipe import Recipe
from lpqld.views.drawn import DrawnViews
from lpqld.views.rendering import render
from lpqld.views.rule import ViewRule
from tests.checks import RULE, dense_probabilities, equal_labels
from tests.conftest import CHECKOUT


@pytest.fixture(scope="module")
def top3(labels):
    return encode(labels, TopK(3, 0.25), num_views=100).decode()


@pytest.fixture(scope="module")
def data(images, top3) -> ViewDataset:
    return ViewDataset(images, top3)


def same(one: LabelBatch, other: LabelBatch) -> bool:
    names = ("views", "ids", "values", "image_labels")
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in names)


class TestBatch:
    @pytest.mark.parametrize("temperature", [20.0, 2.0, 1.0, 0.05], ids=str)
    def test_targets_are_a_softmax_over_the_kept_classes_and_nothing_elsewhere(self, data, top3, temperature):
        positions = np.arange(100)
        targets = data[positions].targets(temperature)
        expected = dense_probabilities(top3.logits.ids, top3.logits.values / np.float32(temperature), 10)
        assert targets.dtype == torch.float32
        assert targets.numpy() == pytest.approx(expected, abs=1e-5)
        absent = np.ones((100, 10), dtype=bool)
        np.put_along_axis(absent, top3.logits.ids.astype(np.int64), False, axis=1)
        assert (targets.numpy()[absent] == 0).all()

    def test_sparse_targets_are_the_same_numbers(self, data):
        batch = data[np.arange(40)]
        found = batch.soft_targets(2.0)
        assert torch.equal(batch.targets(2.0).gather(1, found.ids), found.probabilities)

    def test_a_batch_holds_the_rendered_views_and_the_labels_at_its_positions(self, data, images, top3):
        positions = np.array([99, 3, 31, 3])
        batch = data[positions]
        views = DrawnViews(images, RULE, 0)
        params = views.draw(positions)
        assert torch.equal(batch.views, render(images.pixels, params))
        assert batch.ids.tolist() == top3.logits.ids[positions].tolist()
        assert batch.values.tolist() == top3.logits.values[positions].tolist()
        assert batch.image_labels.tolist() == images.labels[torch.from_numpy(params.rows)].tolist()
        assert batch.num_classes == 10

    def test_one_position_is_a_batch_of_one(self, data):
        assert same(data[7], data[np.array([7])])
        assert same(data[[7, 8]], data[np.array([7, 8])])

    def test_positions_past_the_end_are_refused(self, data):
        with pytest.raises(IndexError):
            data[100]


class TestRecoded:
    """Labels that are a view of a larger set."""

    @pytest.mark.parametrize(
        "codec", [TopK(3, 0.25), TopK(2), Dense(), Dense(0.5), TopK(2, 0.25, "tail"), Hard()], ids=str
    )
    @pytest.mark.parametrize("held", [True, False], ids=["held", "as they are read"])
    @pytest.mark.parametrize("select", ["first", "entropy"])
    def test_they_are_what_a_reader_of_the_files_gets(self, labels, images, monkeypatch, codec, held, select):
        monkeypatch.setattr("lpqld.labels.compress._CHUNK_LOGITS", 70)
        monkeypatch.setattr("lpqld.labels.compress._HELD_BYTES", 2**24 if held else 0)
        master = reordered(labels, select)
        recoded, files = recode(master, codec, num_views=100), encode(master, codec, num_views=100)
        assert recoded.spec == files.spec
        ours, theirs = ViewDataset(images, recoded), ViewDataset(images, files.decode())
        for positions in (np.arange(100), np.array([99, 3, 31, 3]), np.array([7])):
            one, other = ours[positions], theirs[positions]
            assert same(one, other)
            assert (one.absent is None) == (other.absent is None)
            assert one.absent is None or torch.equal(one.absent, other.absent)

    def test_positions_past_the_end_are_refused_though_the_master_has_them(self, labels, images, monkeypatch):
        monkeypatch.setattr("lpqld.labels.compress._HELD_BYTES", 0)
        with pytest.raises(IndexError):
            ViewDataset(images, recode(labels, TopK(2), num_views=100))[100]

    def test_more_than_the_master_holds_is_refused(self, labels):
        with pytest.raises(ConfigError, match="cannot bring the rest back"):
            recode(encode(labels, TopK(3)).decode(), TopK(4))


class TestPickling:
    """Ray pickles with buffers out of band: then nothing of an image set or of labels is copied."""

    def test_buffers_are_the_memory_itself(self, images, labels, top3):
        half = Labels(labels.spec, labels.logits._replace(values=labels.logits.values.astype(np.float16)))
        for value in (images, labels, half, top3):
            buffers: list[pickle.PickleBuffer] = []
            text = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
            kept = [bytes(buffer) for buffer in buffers]  # as an object store has them: read only
            with warnings.catch_warnings():
                warnings.simplefilter("error", UserWarning)
                back = pickle.loads(text, buffers=kept)
            if isinstance(value, ImageSet):
                assert back.fingerprint == value.fingerprint
                assert not np.asarray(back.pixels.numpy()).flags.owndata
                assert sum(map(len, kept)) >= value.pixels.numel() + 8 * value.num_images
            else:
                assert equal_labels(back, value)
                assert not back.logits.values.flags.writeable
                in_rows = 0 if value.logits.one_row else value.logits.ids.nbytes
                logits_bytes = value.logits.values.nbytes + in_rows
                assert logits_bytes <= sum(map(len, kept)) < logits_bytes + 2000
            assert len(text) < 20_000

    def test_one_row_of_ids_stays_one(self, labels):
        assert labels.logits.one_row
        assert pickle.loads(pickle.dumps(labels)).logits.one_row
        assert labels.logits.take(np.array([3, 1])).one_row

    def test_an_image_set_that_is_what_labels_ask_for_is_not_copied(self, images, labels):
        assert labels.images_of(images) is images


class TestEpochs:
    def test_the_length_is_the_number_of_labels(self, data):
        assert len(data) == 100

    @pytest.mark.parametrize("batch_size", [1, 7, 10, 20, 29, 30, 1000], ids=str)
    def test_batches_cover_every_image_once_and_none_is_tiny(self, data, batch_size):
        batches = data.batches(0, batch_size)
        assert sorted(data._views.rows_and_numbers(np.concatenate(batches))[0].tolist()) == list(range(30))
        sizes = [len(batch) for batch in batches]
        assert max(sizes) - min(sizes) <= 1
        assert max(sizes) <= 1.5 * batch_size

    def test_epochs_go_through_all_labels_before_any_repeats(self, data):
        # 100 labels of 30 images: 10 images have four views, the others three.
        read = np.concatenate([np.concatenate(data.batches(epoch, 10)) for epoch in range(4)])
        assert sorted(set(read.tolist())) == list(range(100))
        assert np.bincount(read).max() == 2

    def test_the_seed_decides_the_order(self, data):
        def order(epoch: int, seed: int) -> list[int]:
            return np.concatenate(data.batches(epoch, 10, seed)).tolist()

        assert order(0, 1) == order(0, 1)
        assert len({tuple(order(epoch, seed)) for epoch in range(2) for seed in range(2)}) == 4

    def test_hard_labels_have_fresh_views_and_the_class_of_the_image(self, images):
        data = ViewDataset.hard(images, replace(RULE, mix="none"), 0, 5, "cpu")
        assert len(data) == 150
        seen = []
        for epoch in range(5):
            for batch in data.epoch(epoch, 10):
                assert torch.equal(batch.targets(20.0).argmax(1), batch.image_labels)
                assert torch.equal(batch.targets(20.0).sum(1), torch.ones(len(batch.ids)))
                seen.append(batch.views)
        assert len(torch.unique(torch.cat(seen), dim=0)) > 100


@pytest.fixture(scope="module")
def whole(images, labels) -> Labels:
    return encode(labels, TopK(3, 0.25), num_views=images.num_images).decode()


class TestAugmented:
    RECIPE = Recipe(epochs=5, augment_crop=0.3, augment_flip=True)

    def test_an_epoch_has_other_views_of_every_image_with_the_one_label_of_each(self, images, whole):
        data, plain = ViewDataset.of_recipe(images, whole, self.RECIPE, "cpu", seed=3), ViewDataset(images, whole)
        rule = ViewRule(crop_scale=(0.3, 1.0), flip=True, mix="none")
        views = DrawnViews(images, rule, 3)
        seen = []
        for epoch in range(5):
            positions = np.concatenate(data.batches(epoch, 7, seed=1))
            rows = positions % images.num_images
            assert sorted(rows.tolist()) == list(range(images.num_images))
            batch, expected = data[positions], plain[rows]
            assert torch.equal(batch.ids, expected.ids)
            assert torch.equal(batch.values, expected.values)
            assert torch.equal(batch.image_labels, expected.image_labels)
            assert torch.equal(batch.views, render(images.pixels, views.draw(positions)))
            seen.append(batch.views[np.argsort(rows)])
        assert len({tuple(view.flatten().tolist()) for view in torch.stack(seen)[:, 0]}) == 5

    def test_without_augmentation_views_are_those_of_the_labels(self, images, whole):
        positions = np.arange(images.num_images)
        found = ViewDataset.of_recipe(images, whole, Recipe(), "cpu")
        assert same(found[positions], ViewDataset(images, whole)[positions])

    @pytest.mark.parametrize("recipe", [RECIPE, Recipe()], ids=["augmented", "as they are"])
    def test_weights_stay_with_their_labels(self, images, whole, recipe):
        weights = np.linspace(0, 1, images.num_images)
        data = ViewDataset.of_recipe(images, whole, recipe, "cpu", weights=weights)
        for epoch in range(2):
            positions = np.concatenate(data.batches(epoch, 10))
            found = data[positions].soft_targets(2.0).weights
            assert found.tolist() == pytest.approx(weights[positions % images.num_images].tolist())

    def test_several_labels_of_an_image_are_refused(self, images, top3):
        with pytest.raises(ConfigError, match="one label of each whole image; these are 100 labels of"):
            ViewDataset.of_recipe(images, top3, self.RECIPE, "cpu")


class TestHardLabelled:
    def test_unmixed_views_of_the_same_images_each_with_its_images_class(self, images, data):
        hard = data.hard_labelled(4)
        views = DrawnViews(images, replace(RULE, mix="none"), 0)
        assert RULE.mix != "none"
        for epoch in range(4):
            positions = np.concatenate(hard.batches(epoch, 7, seed=1))
            batch, drawn = hard[positions], views.draw(positions)
            assert torch.equal(batch.views, render(images.pixels, drawn))
            assert sorted(drawn.rows.tolist()) == list(range(images.num_images))
            assert torch.equal(batch.image_labels, images.labels[torch.from_numpy(drawn.rows)])
            expected = torch.nn.functional.one_hot(batch.image_labels, 10).float()
            assert torch.equal(batch.targets(20.0), expected)
        assert hard.num_labels == 4 * images.num_images
        assert hard._bank is data._bank, "one copy of the pixels on a device"

    def test_augmented_whole_images_keep_their_crops(self, images, whole):
        recipe = Recipe(epochs=5, augment_crop=0.3, augment_flip=True)
        data = ViewDataset.of_recipe(images, whole, recipe, "cpu", seed=3)
        positions = np.arange(20)
        assert torch.equal(data.hard_labelled(5)[positions].views, data[positions].views)

    def test_imported_labels_have_crops_of_their_rule(self):
        labels = LabelSet.open(CHECKOUT / "tests" / "format" / "golden" / "v2-stored-cutmix").labels
        images = ImageSet.open("digits:train").sample_per_class(1, 0)
        hard = ViewDataset(images, labels).hard_labelled(2)
        views = DrawnViews(images, replace(labels.spec.view_rule, mix="none"), labels.spec.seed)
        positions = np.arange(hard.num_labels)
        assert torch.equal(hard[positions].views, render(images.pixels, views.draw(positions)))


class TestBinding:
    def test_a_label_set_on_disk_serves_as_well_as_one_in_memory(self, images, digits, folder, labels):
        opened = ViewDataset(images, LabelSet.open(folder))
        in_memory = ViewDataset(digits, encode(labels, TopK(3, 0.25)).decode())
        assert same(opened[np.arange(120)], in_memory[np.arange(120)])

    def test_labels_of_other_images_are_refused(self, digits, top3):
        with pytest.raises(DataError, match="the labels were made for other images"):
            ViewDataset(digits.sample_per_class(3, 1), top3)


class TestLoader:
    @pytest.mark.parametrize("num_workers", [0, 2])
    def test_a_data_loader_gives_the_batches_of_the_epochs(self, data, num_workers):
        sampler = ViewSampler(data, 10, seed=4)
        loader = DataLoader(data, sampler=sampler, batch_size=None, num_workers=num_workers)
        assert len(loader) == 3
        for epoch in range(2):
            found, expected = list(loader), list(data.epoch(epoch, 10, seed=4))
            assert len(found) == len(expected) == 3
            assert all(map(same, found, expected))

    def test_the_epoch_can_be_set(self, data):
        sampler = ViewSampler(data, 10)
        sampler.set_epoch(7)
        assert [batch.tolist() for batch in sampler] == [batch.tolist() for batch in data.batches(7, 10)]

    @pytest.mark.parametrize("batch_size", [1, 7, 20, 30, 100], ids=str)
    def test_the_sampler_knows_its_length(self, data, batch_size):
        sampler = ViewSampler(data, batch_size)
        assert len(list(sampler)) == len(sampler)

    @pytest.mark.parametrize("num_ranks", [2, 3])
    def test_ranks_together_see_every_batch_once(self, data, num_ranks):
        samplers = [ViewSampler(data, 10, seed=4, rank=rank, num_ranks=num_ranks) for rank in range(num_ranks)]
        for epoch in range(3):
            parts = zip(*samplers, strict=True)
            for shares, whole in zip(parts, data.batches(epoch, 10, 4), strict=True):
                assert np.concatenate(shares).tolist() == whole.tolist()
                assert max(map(len, shares)) - min(map(len, shares)) <= 1

    @pytest.mark.parametrize(("rank", "num_ranks", "message"), [(2, 2, "rank 2 of 2"), (0, 40, "cannot be parted")])
    def test_ranks_that_are_not_there_are_refused(self, data, rank, num_ranks, message):
        with pytest.raises(ConfigError, match=message):
            ViewSampler(data, 10, rank=rank, num_ranks=num_ranks)


def test_a_users_own_loop_takes_five_lines(images, top3):
    torch.manual_seed(0)
    student = build("convnet", 10)
    optimizer = torch.optim.AdamW(student.parameters(), lr=3e-3)
    losses = []
    data = ViewDataset(images, top3)
    for epoch in range(12):
        for batch in data.epoch(epoch, batch_size=10):
            loss = -(batch.targets(2.0) * student(batch.views).log_softmax(1)).sum(1).mean()
            optimizer.zero_grad(), loss.backward(), optimizer.step(), losses.append(loss.item())
    assert np.mean(losses[-3:]) < np.mean(losses[:3]) - 0.2
