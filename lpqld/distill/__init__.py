"""Distilled images: class-wise statistics of a teacher, and images recovered from them."""

from typing import TYPE_CHECKING

from lpqld._lazy import lazily

if TYPE_CHECKING:
    from lpqld.distill.class_statistics import ClassStatistics, squeeze
    from lpqld.distill.diversity import within_class_similarity
    from lpqld.distill.recipe import RecoverRecipe
    from lpqld.distill.recover import Batch, Recoverer, batches_of
    from lpqld.distill.statistics_files import (
        StatisticsFolder,
        chunk_classes,
        num_chunks,
        statistics_file,
        statistics_to_bytes,
    )

__getattr__, __dir__, __all__ = lazily(__name__, __file__)
