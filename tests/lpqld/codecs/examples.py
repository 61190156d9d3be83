"""Codecs and logits that every promise is tried on."""

import numpy as np
from hypothesis import strategies as st

from lpqld.codecs import Codec, Dense, TopK
from lpqld.errors import DataError
from tests.checks import check_valid, random_logits

CODECS: dict[str, Codec] = {
    "dense": Dense(),
    "top 1 fp16": TopK(1),
    "top 2 fp16": TopK(2),
    "top 1 steps": TopK(1, 0.25),
    "top 2 coarse": TopK(2, 3.0),
    "top 2 steps": TopK(2, 0.25),
    "top 2 fine": TopK(2, 0.01),
    "top 10 fp16": TopK(10),
    "top 10 coarse": TopK(10, 2.5),
    "top 10 steps": TopK(10, 0.0625),
    "dense steps": Dense(0.25),
    "top 2 minimum": TopK(2, 0.25, "minimum"),
    "top 2 share": TopK(2, 0.25, "share", 4.0),
    "top 3 tail": TopK(3, 0.25, "tail"),
    "top 3 tail fp16": TopK(3, None, "tail"),
}


def with_outlier() -> np.ndarray:
    logits = random_logits(20, 10, seed=3)
    logits[7, 4], logits[8, 0], logits[9] = 60_000, -50_000, 0
    return logits


INPUTS: dict[str, np.ndarray] = {
    "normal": random_logits(64, 10),
    "many classes": random_logits(9, 1000, seed=1),
    "two classes": random_logits(30, 2, seed=2),
    "one view": random_logits(1, 10, seed=4),
    "one view of two classes": np.array([[1.0, 1.0]], dtype=np.float32),
    "constant": np.full((5, 12), 3.3, dtype=np.float32),
    "zeros": np.zeros((3, 10), dtype=np.float32),
    "ties": np.random.default_rng(5).integers(-2, 3, (200, 10)).astype(np.float32),
    "near ties": np.random.default_rng(6).integers(-2, 3, (200, 10)) + random_logits(200, 10, 7, scale=0.01),
    "all negative": -np.abs(random_logits(20, 16, seed=8)) - 100,
    "outliers": with_outlier(),
    "tiny": random_logits(20, 10, seed=9, scale=1e-6),
    "float64": random_logits(20, 10, seed=10).astype(np.float64),
}


@st.composite
def codecs_with_logits(draw: st.DrawFn) -> tuple[Codec, np.ndarray]:
    num_classes = draw(st.integers(2, 20))
    row = st.lists(
        st.one_of(st.integers(-3, 3).map(float), st.floats(-500, 500, width=32)),
        min_size=num_classes,
        max_size=num_classes,
    )
    logits = np.array(draw(st.lists(row, min_size=1, max_size=8)), dtype=np.float32)
    step = draw(st.one_of(st.none(), st.floats(1e-3, 50)))
    absent = draw(st.sampled_from([("none", None), ("minimum", None), ("share", 2.0), ("tail", None)]))
    top = st.builds(TopK, st.integers(1, num_classes), st.just(step), *map(st.just, absent))
    return draw(st.one_of(st.just(Dense(step)), top)), logits


def decodes(codec: Codec, payload: bytes, num_views: int, num_classes: int) -> bool:
    """Whether a payload that may be damaged decodes; if so, to something usable, else with a DataError."""
    try:
        back = codec.decode(payload, num_views=num_views, num_classes=num_classes)
    except DataError:
        return False
    check_valid(back, num_classes)
    return True
