import numpy as np
import pytest

from lpqld.codecs import Dense, TopK
from lpqld.errors import ConfigError
from tests.checks import decoded, random_logits


def test_dense_cannot_bring_dropped_classes_back():
    with pytest.raises(ConfigError, match="keep 3 classes a view, not all 10; use a top-k codec"):
        Dense().encode(decoded(TopK(3), random_logits(4, 10)), num_classes=10)


def test_dense_takes_sparse_labels_that_hold_every_class():
    logits = random_logits(4, 10).astype(np.float16).astype(np.float32)
    assert Dense().encode(decoded(TopK(10), logits), num_classes=10) == Dense().encode(logits)
