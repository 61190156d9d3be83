"""The choice that Optuna's params of a trial stand for; `spaces.Space` suggests them."""

from __future__ import annotations

from typing import Any, NamedTuple

from lpqld.training import CONSTANT
from sweeps.search.choice_kinds import SearchedLabels


class SearchedCodec(NamedTuple):
    """What labels are stored in: a codec by name, the classes or directions that it keeps, the bits of each."""

    name: str
    k: int
    bits: int


def codec_in(params: dict[str, Any]) -> SearchedCodec:
    """The codec of a trial's parameters."""
    k = params["k"]
    name = params[f"codec_of_{k}"]
    return SearchedCodec(name, k, params[f"bits_of_{k}_{name}"])


def choice_of(config: dict[str, Any]) -> SearchedLabels:
    """The choice that Optuna's parameters of a budget stand for."""
    codec = codec_in(config)
    return SearchedLabels(
        budget=config["budget"],
        k=codec.k,
        bits=codec.bits,
        codec=codec.name,
        temperature=_temperature_in(config),
        ca=config["ca"],
        lr=float(f"{config['lr']:.3g}"),
        epoch=config.get("epoch"),
        hard_every=config.get("hard_every", 0),
    )


def _temperature_in(config: dict[str, Any]) -> str:
    """The schedule of a trial's parameters; one that would rise is constant."""
    start = float(f"{config['start']:.3g}")
    if config["shape"] == CONSTANT:
        return f"{start:g}"
    return f"{start:g}:{min(config['end'], start):.3g}:{config['shape']}"
