"""The ways to store labels that `label_codecs.py` compares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from lpqld.codecs import Codec, Dense, Logits, LowRank, TopK, codec_for

_PILOT_VIEWS = 2048


@dataclass(frozen=True)
class Variant:
    """One way to store labels, and how students learn from it where that is not the common recipe.

    Attributes:
        name: of the row and of its files.
        codec: made from the master's dense logits; None for hard labels, which follow from the images.
        equal_bytes: as many views as fit the budget; False takes all of the master.
        recipe: fields of `Recipe` that differ from the common one.
        train: whether students are trained on it, or only its fidelity is measured.
    """

    name: str
    codec: Callable[[Logits], Codec] | None
    equal_bytes: bool = True
    recipe: dict[str, Any] = field(default_factory=dict)
    train: bool = True


def _topk(k: int, step: float = 0.25, **options: Any) -> Callable[[Logits], Codec]:
    return lambda _: TopK(k=k, step=step, **options)


def _dense(bits: int) -> Callable[[Logits], Codec]:
    def make(logits: Logits) -> Codec:
        return codec_for("dense", k=None, bits=bits, num_classes=logits.ids.shape[1], pilot=logits)

    return make


def _low_rank(rank: int, step: float) -> Callable[[Logits], Codec]:
    def make(logits: Logits) -> Codec:
        pilot = logits.values[:_PILOT_VIEWS]
        return LowRank.fit(pilot, rank=min(rank, pilot.shape[1] - 1), step=step)

    return make


VARIANTS = (
    Variant("hard", None, recipe={"temperature": "1", "ca": "off"}),
    Variant("all", lambda _: Dense(), equal_bytes=False),
    Variant("mr-5", _topk(5)),
    Variant("mr-10", _topk(10)),
    Variant("mr-20", _topk(20)),
    Variant("mr-50", _topk(50), train=False),
    Variant("mr-10, step 1", _topk(10, step=1.0)),
    Variant("mrs-10", _topk(10, absent="minimum")),
    # Smoothing fixes the temperature of its targets, so students keep to it too.
    Variant("ms-10", _topk(10, absent="share", temperature=2.0), recipe={"temperature": "2"}),
    Variant("tail-10", _topk(10, absent="tail")),
    Variant("low rank 32", _low_rank(32, step=4.0)),
    Variant("low rank 64", _low_rank(64, step=4.0)),
    Variant("low rank 128", _low_rank(128, step=4.0), train=False),
    Variant("dense, 4 bits", _dense(4)),
)


def named(names: list[str] | None) -> tuple[Variant, ...]:
    """The variants with these names, all where none are given.

    Raises:
        ValueError: an unknown name.
    """
    known = {variant.name: variant for variant in VARIANTS}
    unknown = [name for name in names or [] if name not in known]
    if unknown:
        raise ValueError(f"unknown variant {unknown[0]!r}; choose from {', '.join(known)}")
    return tuple(known[name] for name in names) if names else VARIANTS
