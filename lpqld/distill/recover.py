"""Recover: images whose batch-norm statistics in a teacher are those of their class, and which it takes for it.

Of a class's images x, drawn from N(0, 1) in the teacher's normalised space, Adam minimises

    CE(f(A x), c) + r_bn sum_l w_l (||Var_l(A x) - var_lc||_2 + ||mean_l(A x) - mu_lc||_2)

with A a random crop, flip and circular shift, w 10 for the first layer and else 1, and biased variances over the
class's images and positions (LPQLD, arXiv 2604.18135; LPLD, arXiv 2410.15919). In cross-class mode a batch has
images of many classes, and all share the layers' running statistics (SRe2L, arXiv 2306.13092).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from lpqld.counter_random import Stream, random_words, uniform
from lpqld.distill.bn_hooks import batch_norm_layers, with_batch_norm_loss
from lpqld.distill.bn_loss import BatchNormLoss
from lpqld.distill.class_statistics import ClassStatistics
from lpqld.distill.recipe import RecoverRecipe
from lpqld.errors import ConfigError, DataError, few
from lpqld.models import Teacher, normalised, slower_in_bfloat16, uses_bfloat16
from lpqld.views import draw_crops, resized_crops

_BLOCK_MAIN, _BLOCK_CROP = 0, 16
_DRAW_AHEAD = 64  # iterations whose crops are drawn at once
_LOOK_EVERY = 50  # iterations between two looks at the loss, for which a GPU is waited for
MAX_IPC = 2**20
_FEWEST_BATCHES = 8  # so that as many workers have work, where there are as many classes
DEFAULT_BATCH_SIZE = 100


@dataclass(frozen=True)
class Batch:
    """Images that are recovered together.

    Attributes:
        classes: of each image, int64 [B].
        numbers: of each image in its class, from 0, int64 [B].
    """

    classes: NDArray[np.int64]
    numbers: NDArray[np.int64]

    @property
    def class_ids(self) -> NDArray[np.int64]:
        """The classes that are in it, ascending."""
        return np.unique(self.classes)


def batches_of(num_classes: int, ipc: int, recipe: RecoverRecipe) -> list[Batch]:
    """All batches of a job: their number and content depend on nothing else.

    Raises:
        ConfigError: `ipc` is out of range.
    """
    if not 1 <= ipc <= MAX_IPC:
        raise ConfigError(f"images per class must be from 1 to {MAX_IPC}, found {ipc}")
    batch_size = recipe.batch_size or DEFAULT_BATCH_SIZE
    if recipe.mode == "class":
        most = num_classes // _FEWEST_BATCHES if recipe.batch_size is None else num_classes
        together = max(1, min(batch_size // ipc, most))
        starts = range(0, num_classes, together)
        groups = [np.arange(start, min(start + together, num_classes)) for start in starts]
        return [Batch(np.repeat(group, ipc), np.tile(np.arange(ipc), len(group))) for group in groups]
    # Number after number, in parts of like size: none is left with few images for statistics of all.
    classes, numbers = np.tile(np.arange(num_classes), ipc), np.repeat(np.arange(ipc), num_classes)
    parts = -(-len(classes) // batch_size)
    split = zip(np.array_split(classes, parts), np.array_split(numbers, parts), strict=True)
    return [Batch(some, their_numbers) for some, their_numbers in split]


@dataclass(frozen=True)
class Losses:
    """Means over the classes of a batch at one iteration, from 1."""

    iteration: int
    cross_entropy: float
    batch_norm: float


class Recoverer:
    """A teacher at work on a device: recovers any batch of images."""

    def __init__(self, teacher: Teacher, recipe: RecoverRecipe, size: int, device: torch.device) -> None:
        """`size`: side of the images in pixels.

        Raises:
            ConfigError: the teacher has no batch norm, or takes images of another size.
        """
        wanted = teacher.spec.input_size
        if wanted is not None and wanted != size:
            raise ConfigError(
                f"the teacher takes images of {wanted} px, found {size}: recover at {wanted}, `size={wanted}`"
            )
        self._teacher = teacher.to(device).to(memory_format=torch.channels_last).eval().requires_grad_(False)
        self._layers = batch_norm_layers(self._teacher, size)
        self._recipe, self._size, self._device = recipe, size, device
        self._bfloat16 = uses_bfloat16(recipe.precision, slower_in_bfloat16(self._teacher), device)
        self._lowest = normalised(torch.zeros(1, 3, 1, 1, device=device), teacher.mean, teacher.std)
        self._highest = normalised(torch.ones(1, 3, 1, 1, device=device), teacher.mean, teacher.std)

    @property
    def channels(self) -> dict[str, int]:
        """Of each batch-norm layer, in the order in which an image passes them."""
        return {name: layer.num_features for name, layer in self._layers.items()}

    def recover(
        self,
        batch: Batch,
        statistics: ClassStatistics | None,
        real: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, list[Losses]]:
        """The images of a batch, uint8 [B, 3, S, S], and the losses on their way, now and then.

        Where the loss is not finite all is done again, once, at half the learning rate.

        Args:
            statistics: of at least its classes; unused in cross-class mode.
            real: where images start, of init "real": uint8 [B, 3, S, S].

        Raises:
            DataError: statistics are of another model, or the loss is not finite, naming the classes.
        """
        terms = self._terms(batch, statistics)
        bad: NDArray[np.int64] = batch.class_ids
        for lr in (self._recipe.lr, self._recipe.lr / 2):
            images = self._start(batch, real)
            losses, bad = self._descend(images, batch, terms, lr)
            if not len(bad):
                pixels = images.detach() * self._teacher.std + self._teacher.mean
                return pixels.mul(255).round_().clamp_(0, 255).to(torch.uint8).contiguous().cpu(), losses
        raise DataError(
            f"recovering classes {few(bad)}: the loss is not finite, also with half of lr {self._recipe.lr:g}; lower "
            f"recover.lr or recover.bn_weight"
        )

    def _terms(self, batch: Batch, statistics: ClassStatistics | None) -> dict[str, BatchNormLoss]:
        """To the statistics of each class of a batch; in cross-class mode, to the running ones."""
        recipe, found = self._recipe, {}
        if recipe.mode == "class":
            assert statistics is not None, "class mode needs statistics"
            statistics = statistics.take(batch.class_ids)
            if {name: values.shape[1] for name, values in statistics.means.items()} != self.channels:
                raise DataError("these statistics are of another network than this teacher's; squeeze again")
        for index, (name, layer) in enumerate(self._layers.items()):
            weight = recipe.bn_weight * (recipe.first_layer_weight if index == 0 else 1)
            if recipe.mode == "class":
                assert statistics is not None
                mean, variance = (
                    torch.from_numpy(part[name]).to(self._device) for part in (statistics.means, statistics.variances)
                )
            else:
                assert layer.running_mean is not None
                assert layer.running_var is not None
                mean, variance = layer.running_mean[None].float(), layer.running_var[None].float()
            found[name] = BatchNormLoss(mean, variance, weight)
        return found

    def _start(self, batch: Batch, real: torch.Tensor | None) -> torch.Tensor:
        if self._recipe.init == "real":
            assert real is not None, "init real needs images"
            return normalised(real.to(self._device).float().div(255), self._teacher.mean, self._teacher.std)
        seeds = random_words(self._recipe.seed, Stream.START, batch.classes, batch.numbers, 0)[0]
        generator, shape = torch.Generator(), (3, self._size, self._size)
        noise = [
            torch.randn(shape, generator=generator.manual_seed(int(seed >> np.uint64(1)))) for seed in seeds
        ]  # on the CPU, whose numbers are the same for every device
        return torch.stack(noise).to(self._device)

    def _descend(
        self,
        images: torch.Tensor,
        batch: Batch,
        terms: dict[str, BatchNormLoss],
        lr: float,
    ) -> tuple[list[Losses], NDArray[np.int64]]:
        """Recover `images` in place; the losses, and the classes whose images or loss are not finite."""
        recipe, losses = self._recipe, list[Losses]()
        images.requires_grad_()
        optimizer = torch.optim.Adam([images], lr=lr, betas=recipe.betas, fused=True)
        num_groups = len(batch.class_ids) if recipe.mode == "class" else 1
        classes = torch.from_numpy(batch.classes).to(self._device)
        with with_batch_norm_loss(self._layers, terms) as distances:
            for iteration, (crop, flip, shift) in enumerate(self._draws(batch)):
                optimizer.param_groups[0]["lr"] = lr * (1 + math.cos(math.pi * iteration / recipe.iterations)) / 2
                views = resized_crops(images, crop, flip, shift if recipe.shift else None)
                with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bfloat16):
                    logits = self._teacher.logits(views.contiguous(memory_format=torch.channels_last))
                # Classes do not know of each other: the gradient is that of each class alone.
                entropy = F.cross_entropy(logits.float(), classes, reduction="sum") * num_groups / len(images)
                entropy.backward()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                with torch.no_grad():
                    images.clamp_(self._lowest, self._highest)
                last = iteration + 1 == recipe.iterations
                if last or iteration % _LOOK_EVERY == 0:
                    distance = sum(terms[name].weight * float(value) for name, value in distances.items())
                    parts = entropy.item() / num_groups, distance / num_groups
                    losses.append(Losses(iteration + 1, *parts))
                    if not math.isfinite(sum(parts)):
                        break
        bad = ~torch.isfinite(images.detach()).flatten(1).all(1).cpu().numpy()
        if not bad.any() and not math.isfinite(losses[-1].cross_entropy + losses[-1].batch_norm):
            return losses, batch.class_ids
        return losses, np.unique(batch.classes[bad])

    def _draws(self, batch: Batch) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Crops [B, 4], flips [B] and shifts [B, 2] of every iteration; an image's depend on the seed and it alone."""
        recipe, ids = self._recipe, batch.classes * MAX_IPC + batch.numbers
        for first in range(0, recipe.iterations, _DRAW_AHEAD):
            some = np.arange(first, min(first + _DRAW_AHEAD, recipe.iterations))
            who, when = np.tile(ids, len(some)), np.repeat(some, len(ids))
            low = np.repeat(recipe.smallest_crop(some), len(ids))
            high = recipe.crop_scale[1]
            crops = draw_crops(recipe.seed, Stream.RECOVER, who, when, _BLOCK_CROP, low, high, recipe.crop_ratio)
            words = random_words(recipe.seed, Stream.RECOVER, who, when, _BLOCK_MAIN)
            flips = (words[0] >> np.uint64(63)).astype(bool) & recipe.flip
            shifts = np.floor(uniform(words[1:3]) * (2 * recipe.shift + 1)).astype(np.int64).T - recipe.shift
            shape = len(some), len(ids)
            yield from zip(
                torch.from_numpy(crops.reshape(*shape, 4)).to(self._device),
                torch.from_numpy(flips.reshape(shape)).to(self._device),
                torch.from_numpy(shifts.reshape(*shape, 2)).to(self._device),
                strict=True,
            )
