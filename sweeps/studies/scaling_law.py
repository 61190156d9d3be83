"""How accuracy grows with images and with what their labels hold: a law fitted to a grid, and what a label is worth.

The law is ours, of the grid of "A Label is Worth a Thousand Images" (arXiv 2406.10485): the log-odds of a correct
answer are linear in the logarithm of the images of a class, in that of the classes kept in a label, and in the product
of both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
FORMULA = "logit(accuracy) = a + b ln(ipc) + c ln(k) + d ln(ipc) ln(k), hard labels at k = 1"
_NAMES = ("a", "b", "c", "d")
_NUM_DRAWS = 4000
_BAND = (2.5, 97.5)
_MOST = 100.0  # log of a number of images that nobody has
_FINITE = 1e-4  # accuracies of 0 and 1 have no log-odds


@dataclass(frozen=True)
class Estimate:
    """A value and its 95 % confidence band; infinite, or NaN where the data do not tell."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, value: float, draws: Values) -> Estimate:
        """With the band that 95 % of `draws` lie in."""
        # Between two draws there is nothing to interpolate where one is infinite.
        low = np.percentile(draws, _BAND[0], method="lower")
        return cls(value, float(low), float(np.percentile(draws, _BAND[1], method="higher")))

    def scaled(self, factor: float, offset: float) -> Estimate:
        """Of (value + offset) times a factor above 0."""
        return Estimate(*((each + offset) * factor for each in (self.value, self.low, self.high)))

    def to_json(self) -> dict[str, float | None]:
        """JSON values: None for what is not finite."""
        return {name: each if math.isfinite(each) else None for name, each in vars(self).items()}


@dataclass(frozen=True)
class ScalingLaw:
    """A fitted law.

    Attributes:
        coefficients: a, b, c, d of `FORMULA`, [4].
        draws: coefficients that the data allow as well, [n, 4]: those of a multivariate t distribution.
        rms: of what the law misses, a fraction of accuracy.
    """

    coefficients: Values
    draws: Values
    rms: float

    def accuracy(self, ipc: float, k: float) -> Estimate:
        """With `ipc` images of a class and `k` classes kept in a label (0 or 1: hard labels), a fraction."""
        at = _terms(np.array([ipc]), np.array([k]))
        return Estimate.of(
            float(_fraction(at @ self.coefficients)[0]), np.asarray(_fraction(self.draws @ at[0]), dtype=np.float64)
        )

    def accuracies(self, ipc: Values, k: Values) -> Values:
        """The same of many, of any shape, without bands."""
        return _fraction(_terms(ipc.ravel(), k.ravel()) @ self.coefficients).reshape(ipc.shape)

    def worth(self, ipc: float, k: float) -> Estimate:
        """How many images with hard labels do as much as one with `k` classes kept, where there are `ipc` of a class.

        NaN where more images with hard labels do not help, by the law: then there is no such number.
        """
        at = _terms(np.array([ipc]), np.array([k]))[0]
        value = float(_worth(self.coefficients[None], at, ipc)[0]) if self.coefficients[1] > 0 else math.nan
        return Estimate.of(value, _worth(self.draws, at, ipc))

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        found = {name: Estimate.of(float(self.coefficients[index]), self.draws[:, index]).to_json()
                 for index, name in enumerate(_NAMES)}  # fmt: skip
        return {"formula": FORMULA, "coefficients": found, "rms": self.rms}


def fit_scaling_law(ipc: Sequence[int], k: Sequence[int], accuracy: Sequence[float]) -> ScalingLaw | None:
    """Least squares in log-odds; None where the grid is too small: two of each kind, and more than four points.

    Args:
        ipc: images of each class.
        k: classes kept in a label; 0 and 1 are hard labels.
        accuracy: of each, a fraction.
    """
    at = _terms(np.asarray(ipc, dtype=np.float64), np.asarray(k, dtype=np.float64))
    measured = np.clip(np.asarray(accuracy, dtype=np.float64), _FINITE, 1 - _FINITE)
    freedom = len(at) - len(_NAMES)
    if freedom < 1 or np.linalg.matrix_rank(at) < len(_NAMES):
        return None
    wanted = np.log(measured / (1 - measured))
    coefficients = np.asarray(np.linalg.lstsq(at, wanted, rcond=None)[0], dtype=np.float64)
    missed = wanted - at @ coefficients
    covariance = np.linalg.inv(at.T @ at) * (missed @ missed) / freedom
    generator = np.random.default_rng(0)
    normal = generator.multivariate_normal(np.zeros(len(_NAMES)), covariance, _NUM_DRAWS)
    heavy = np.sqrt(freedom / generator.chisquare(freedom, _NUM_DRAWS))
    rms = float(np.sqrt(np.mean((_fraction(at @ coefficients) - measured) ** 2)))
    return ScalingLaw(coefficients, coefficients + normal * heavy[:, None], rms)


def _terms(ipc: Values, k: Values) -> Values:
    images, kept = np.log(ipc), np.log(np.maximum(k, 1))
    return np.stack([np.ones_like(images), images, kept, images * kept], axis=1)


def _fraction(log_odds: Values) -> Values:
    return np.asarray(1 / (1 + np.exp(-log_odds)), dtype=np.float64)


def _worth(coefficients: Values, at: Values, ipc: float) -> Values:
    """Without a slope it is infinite for labels that are better than hard ones, 0 for others."""
    hard, slope = coefficients[:, 0], coefficients[:, 1]
    better = coefficients @ at > hard + slope * np.log(ipc)
    exponent = np.divide(coefficients @ at - hard, slope, out=np.where(better, np.inf, -np.inf), where=slope > 0)
    finite = np.where(np.isfinite(exponent), np.minimum(exponent, _MOST), exponent)
    return np.asarray(np.exp(finite) / ipc, dtype=np.float64)
