"""What makes one shard of a label set, in a worker of the relabel job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import ray
import torch

from lpqld.images import ImageMemory
from lpqld.labels import Labeler, LabelSpec, Shard
from sweeps.cluster import Answer


@dataclass(frozen=True)
class ShardMaker:
    """Labels the views of a shard; `teacher` and `images` are in the object store, one copy on each node."""

    doing: ClassVar[str] = "labeling"

    spec: LabelSpec
    teacher: Any
    images: Any
    memory: ImageMemory | None

    def load(self, device: torch.device) -> Labeler:
        """The teacher at work on this worker's device."""
        teacher, images = ray.get([self.teacher, self.images])
        return Labeler(teacher, images, self.spec.view_rule, self.spec.seed, device, self.memory)

    def make(self, loaded: Labeler, index: int) -> tuple[bytes, Answer]:
        """The bytes of a shard, and what the manifest will say of it."""
        content = loaded.shard(self.spec, index)
        return content, {**Shard.of(content).to_json(), "images": str(loaded.bank)}
