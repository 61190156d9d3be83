"""A sweep under way, as its phases see it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from lpqld.models import choose_device
from lpqld.progress import Progress
from sweeps.config import SweepConfig
from sweeps.search.folder import SECONDS_FILE, Clock


@dataclass(frozen=True)
class SweepJob:
    """What a sweep does, where, and who hears of it.

    Attributes:
        config: what to do.
        root: results go to `folder` in it.
        device: what this process computes on.
        clock: seconds by phase.
        progress: told what happens.
    """

    config: SweepConfig
    root: Path
    device: torch.device
    clock: Clock
    progress: Progress

    @classmethod
    def begin(cls, config: SweepConfig, root: Path, progress: Progress) -> SweepJob:
        """A job of this process, with the seconds of earlier ones on its clock."""
        return cls(config, root, choose_device(), Clock(root / config.name / SECONDS_FILE), progress)

    @property
    def folder(self) -> Path:
        """The sweep's own folder."""
        return self.root / self.config.name
