import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lpqld.distill.diversity import within_class_similarity
from lpqld.errors import DataError
from lpqld.images.image_set import ImageSet
from lpqld.models.teacher import Teacher
from lpqld.models.teacher_spec import TeacherSpec

CPU = torch.device("cpu")


def plain_similarity(teacher: Teacher, images: ImageSet) -> float:
    """Every pair of a class by itself, then the mean of the classes."""
    with torch.inference_mode():
        body = nn.Sequential(*list(teacher.model)[:-1])  # the convnet without its linear layer
        features = body((images.pixels.float() / 255 - teacher.mean) / teacher.std).double()
    means = []
    for label in range(images.num_classes):
        rows = torch.nonzero(images.labels == label).flatten().tolist()
        cosines = [
            float(F.cosine_similarity(features[one], features[other], dim=0))
            for place, one in enumerate(rows)
            for other in rows[place + 1 :]
        ]
        if cosines:
            means.append(np.mean(cosines))
    return float(np.mean(means))


@pytest.mark.parametrize("batch_size", [7, 250], ids=str)
def test_similarity_is_the_mean_of_every_pair(teacher, images, batch_size):
    found = within_class_similarity(teacher, images, CPU, batch_size)
    assert found == pytest.approx(plain_similarity(teacher, images), abs=1e-5)


def test_classes_of_one_image_do_not_count(teacher, images):
    uneven = images.take([0, 1, 2, 3, 6, 9, 12, 15, 16])
    assert within_class_similarity(teacher, uneven, CPU) == pytest.approx(plain_similarity(teacher, uneven), abs=1e-5)


def test_copies_of_one_image_are_alike_and_real_images_are_not(teacher, images):
    copies = images.take(np.repeat(np.arange(0, 30, 3), 3))
    assert within_class_similarity(teacher, copies, CPU) == pytest.approx(1.0, abs=1e-6)
    assert within_class_similarity(teacher, images, CPU) < 0.99


def test_without_pairs_there_is_no_similarity(teacher, images):
    assert within_class_similarity(teacher, images.first_per_class(1), CPU) is None


def test_the_teacher_is_left_as_it_was(teacher, images):
    linear = [module for module in teacher.modules() if isinstance(module, nn.Linear)][-1]
    before = teacher.fingerprint, len(linear._forward_pre_hooks)
    within_class_similarity(teacher, images, CPU)
    assert (teacher.fingerprint, len(linear._forward_pre_hooks)) == before


def test_a_network_without_a_linear_layer_is_refused(images):
    model = nn.Sequential(nn.Conv2d(3, 10, 8), nn.Flatten())
    with pytest.raises(DataError, match="has no linear layer"):
        within_class_similarity(Teacher(model, TeacherSpec("conv", 10)), images, CPU)
