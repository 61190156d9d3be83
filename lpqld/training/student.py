"""A student: a network that takes the views that labels were made for, as its recipe says."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from lpqld.errors import ConfigError
from lpqld.models import build, fixed_input_size, layout_of, normalised, slower_in_bfloat16, uses_bfloat16
from lpqld.training.recipe import Recipe


class Student(nn.Module):
    """A network that takes views in [0, 1] and normalises them itself: [B, 3, S, S] to logits [B, C].

    Networks of a fixed input size (most transformers) have views of other sizes resized to it. Weights and views lie
    as `lpqld.models.layout_of` says. In bfloat16 (see `uses_bfloat16` there) its logits are bfloat16 too.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, recipe: Recipe, num_classes: int, seed: int) -> None:
        super().__init__()
        self.architecture = recipe.architecture
        self.precision = recipe.precision
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = build(recipe.architecture, num_classes)
        self._layout = layout_of(self.network)
        self.network.to(memory_format=self._layout)
        self.input_size = fixed_input_size(self.network)
        self._slower = slower_in_bfloat16(self.network)
        self.register_buffer("mean", torch.tensor(recipe.mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(recipe.std)[:, None, None], persistent=False)

    def forward(self, views: torch.Tensor) -> torch.Tensor:
        """Logits [B, C] of views in [0, 1]."""
        if self.input_size is not None and views.shape[-1] != self.input_size:
            size = (self.input_size, self.input_size)
            views = F.interpolate(views, size, mode="bilinear", antialias=views.shape[-1] > self.input_size)
        inputs = normalised(views, self.mean, self.std).contiguous(memory_format=self._layout)
        with torch.autocast(views.device.type, torch.bfloat16, enabled=self.uses_bfloat16(views.device)):
            logits: torch.Tensor = self.network(inputs)
        return logits

    def uses_bfloat16(self, device: torch.device) -> bool:
        """Whether the network runs in bfloat16 on `device`."""
        return uses_bfloat16(self.precision, self._slower, device)

    def check_input(self, size: int) -> None:
        """Refuse views of `size` x `size` pixels that the network cannot take.

        Raises:
            ConfigError: it fails on one.
        """
        was_training = self.training
        try:
            with torch.inference_mode():
                self.eval()(torch.zeros(1, 3, size, size, device=self.mean.device))
        except (RuntimeError, AssertionError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            raise ConfigError(
                f"architecture {self.architecture} cannot take images of {size} x {size} pixels ({reason}): choose "
                "another, or larger images"
            ) from error
        finally:
            self.train(was_training)
