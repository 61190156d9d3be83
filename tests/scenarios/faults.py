"""Faults that happen: a network that meets them where they are laid out for it, and keeps a log of what it did."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import torch


class Trapped(torch.nn.Module):
    """A network that notes every batch in `folder`, is slow there where a file `slow` says by how many seconds, and
    springs one trap per batch: `kill-N` ends its process as nothing can prevent, `oserror-N` fails once."""

    def __init__(self, network: torch.nn.Module, folder: Path) -> None:
        super().__init__()
        self.network, self.folder = network, str(folder)

    def forward(self, views: torch.Tensor) -> torch.Tensor:
        folder = Path(self.folder)
        with (folder / "batches").open("a") as log:
            log.write(f"{os.getpid()}\n")
        for trap in sorted(folder.glob("*-*")):
            trap.unlink()
            if trap.name.startswith("kill"):
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError("the network file system did not answer")
        if (folder / "slow").exists():
            time.sleep(float((folder / "slow").read_text()))
        return self.network(views)


def lay(folder: Path, kind: str, count: int = 1) -> None:
    """Lay out traps."""
    for number in range(count):
        (folder / f"{kind}-{number:02d}").touch()


def num_batches(folder: Path) -> int:
    """How many batches were begun."""
    log = folder / "batches"
    return len(log.read_text().splitlines()) if log.exists() else 0
