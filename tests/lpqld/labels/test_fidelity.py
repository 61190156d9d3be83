from dataclasses import replace

import numpy as np
import pytest
import torch

from lpqld.codecs import Logits
from lpqld.codecs.dense import Dense
from lpqld.codecs.topk import TopK
from lpqld.errors import DataError
from lpqld.labels.compress import encode
from lpqld.labels.fidelity import TEMPERATURES, entropy, largest_difference, probabilities, total_variation
from lpqld.labels.label_set import Labels
from lpqld.labels.relabel import Labeler, specify
from lpqld.models.architectures import build
from lpqld.models.teacher import Teacher
from lpqld.models.teacher_spec import TeacherSpec
from lpqld.views.registry import drawn_by
from tests.checks import RULE, dense_probabilities, made_up_labels

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def real(teacher, images) -> Labels:
    """What the teacher really says, all logits."""
    spec = specify(teacher, images, RULE, views_per_image=4, seed=5, batch_size=16, device=CPU)
    batches = Labeler(teacher, images, RULE, 5, CPU).batches(0, spec.num_views, 16, Dense())
    return encode(Labels(spec, Logits.concatenate(list(batches))), Dense()).decode()


def cut(labels: Labels, codec: Dense | TopK, num_views: int | None = None) -> Labels:
    return encode(labels, codec, num_views=num_views).decode()


class TestProbabilities:
    @pytest.mark.parametrize("temperature", TEMPERATURES, ids=str)
    @pytest.mark.parametrize("k", [1, 3, 10])
    def test_they_are_a_softmax_over_the_kept_classes(self, real, temperature, k):
        logits = cut(real, TopK(k)).logits
        expected = dense_probabilities(logits.ids, logits.values.astype(np.float64) / temperature, 10)
        assert probabilities(logits, temperature, 10) == pytest.approx(expected, abs=1e-12)


class TestEntropy:
    @pytest.mark.parametrize("temperature", [1.0, 7.0], ids=str)
    @pytest.mark.parametrize("codec", [Dense(), TopK(3), TopK(4, 0.5)], ids=str)
    def test_entropy_is_the_mean_of_minus_p_log_p(self, real, codec, temperature):
        labels = cut(real, codec)
        p = dense_probabilities(labels.logits.ids, labels.logits.values.astype(np.float64) / temperature, 10)
        expected = -np.sum(np.where(p > 0, p * np.log(np.where(p > 0, p, 1)), 0), axis=1).mean()
        assert entropy(labels, temperature) == pytest.approx(expected, abs=1e-9)

    def test_the_two_ends(self, labels):
        uniform = Labels(labels.spec, Logits(labels.logits.ids, np.zeros_like(labels.logits.values)))
        assert entropy(uniform) == pytest.approx(np.log(10))
        assert entropy(cut(labels, TopK(1))) == pytest.approx(0.0)

    def test_more_labels_than_a_chunk_count_alike(self, images):
        many = made_up_labels(images, 150)
        p = dense_probabilities(many.logits.ids, many.logits.values.astype(np.float64), 10)
        assert many.spec.num_views > 4096
        assert entropy(many) == pytest.approx(-(p * np.log(p)).sum(axis=1).mean())


class TestTotalVariation:
    @pytest.mark.parametrize("codec", [TopK(3), TopK(10, 1.0), TopK(2, 0.25)], ids=str)
    def test_distances_are_those_of_a_plain_reference(self, real, codec):
        labels = cut(real, codec, 100)
        found = total_variation(labels, real)
        assert list(found) == list(TEMPERATURES)
        for temperature, distance in found.items():
            p, q = (
                dense_probabilities(one.logits.ids[:100], one.logits.values[:100].astype(np.float64) / temperature, 10)
                for one in (labels, real)
            )
            assert distance == pytest.approx(np.abs(p - q).sum(axis=1).mean() / 2, abs=1e-9)
            assert total_variation(real, labels)[temperature] == pytest.approx(distance)

    def test_a_label_set_is_at_no_distance_from_itself(self, real):
        assert set(total_variation(real, real).values()) == {0.0}

    def test_labels_without_a_common_class_are_at_distance_one(self, labels):
        reverse = Labels(labels.spec, Logits(labels.logits.ids, -labels.logits.values))
        assert total_variation(cut(labels, TopK(1)), cut(reverse, TopK(1)))[1.0] == pytest.approx(1.0)

    @pytest.mark.parametrize("kind", ["seed", "rule", "images"])
    def test_label_sets_of_other_views_cannot_be_compared(self, labels, images, digits, kind):
        other = {
            "seed": made_up_labels(images, seed=1),
            "rule": made_up_labels(images, rule=replace(RULE, mix="none")),
            "images": made_up_labels(digits.sample_per_class(3, 1)),
        }[kind]
        with pytest.raises(DataError, match="hold other views and cannot be compared"):
            total_variation(labels, other)


class TestLargestDifference:
    CODECS = (Dense(), TopK(3), TopK(3, 0.25), TopK(10, 1.0), TopK(2, 0.03), TopK(1), TopK(1, 0.25))

    @pytest.mark.parametrize("codec", CODECS, ids=str)
    def test_the_right_teacher_is_within_a_step(self, real, images, teacher, codec):
        found = largest_difference(cut(real, codec), images, teacher, num_views=120, seed=0, device=CPU)
        assert 0 <= found < 1

    @pytest.mark.parametrize("codec", CODECS, ids=str)
    def test_another_teacher_is_not(self, real, images, codec):
        torch.manual_seed(1)
        other = Teacher(build("convnet", 10), TeacherSpec("convnet", 10, 8))
        assert largest_difference(cut(real, codec), images, other, num_views=120, seed=0, device=CPU) > 1

    def test_views_of_another_seed_are_not(self, real, images, teacher):
        wrong = Labels(replace(real.spec, views=drawn_by(RULE, 6)), real.logits)
        assert largest_difference(wrong, images, teacher, num_views=120, seed=0, device=CPU) > 1

    def test_one_wrong_label_is_found(self, real, images, teacher):
        values = real.logits.values.copy()
        values[33, 4] += 0.5
        damaged = Labels(real.spec, Logits(real.logits.ids, values))
        found = largest_difference(damaged, images, teacher, num_views=120, seed=0, device=CPU)
        # A constant shift does not count, so half of 0.5, in steps of 1 / 64.
        assert found == pytest.approx(16, abs=0.6)

    def test_a_sample_is_drawn_by_the_seed(self, real, images, teacher):
        values = real.logits.values.copy()
        values[::2, 4] += 0.5
        damaged = Labels(real.spec, Logits(real.logits.ids, values))
        found = {
            largest_difference(damaged, images, teacher, num_views=1, seed=seed, device=CPU) > 1 for seed in range(12)
        }
        assert found == {True, False}

    def test_other_images_and_other_classes_are_refused(self, real, images, digits, teacher):
        with pytest.raises(DataError, match="the labels were made for other images"):
            largest_difference(real, digits.sample_per_class(3, 1), teacher, num_views=5, seed=0, device=CPU)
        small = Teacher(build("convnet", 7), TeacherSpec("convnet", 7))
        with pytest.raises(DataError, match="the teacher has 7 classes, the labels 10"):
            largest_difference(real, images, small, num_views=5, seed=0, device=CPU)
