"""Small soft labels for dataset distillation: images, views, labels, codecs, teachers, students."""

from typing import TYPE_CHECKING

from lpqld._lazy import lazily

if TYPE_CHECKING:
    from lpqld.images import ImageSet
    from lpqld.labels import LabelSet
    from lpqld.models import load_teacher
    from lpqld.training import Recipe, Student, ViewDataset, ViewSampler, train

__getattr__, __dir__, __all__ = lazily(__name__, __file__)
