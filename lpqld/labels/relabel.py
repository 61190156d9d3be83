"""Relabel: the teacher's logits of every view, shard by shard."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from lpqld.codecs import Codec, Dense, Logits, codec_for, default_codec_name, needs_pilot
from lpqld.errors import ConfigError, DataError
from lpqld.images import ImageMemory, ImageSet
from lpqld.labels.limits import MAX_SHARD_LOGITS, MAX_SHARD_VIEWS
from lpqld.labels.provenance import ImagesRef, TeacherRef
from lpqld.labels.shards import encode_shard
from lpqld.labels.spec import LabelSpec
from lpqld.models import Teacher
from lpqld.views import ImageBank, ViewParams, ViewRule, drawn_by

_PILOT_VIEWS = 1024
# A shard is about 1/512 of the job, so that 64 workers idle for a tenth of it at most at the end; neither so small that
# starting one shows (FEWEST), nor so large that losing one hurts (MOST), nor its logits more than 128 MiB in memory.
_JOB_SHARDS, _FEWEST_SHARD_VIEWS, _MOST_SHARD_VIEWS, _SHARD_LOGITS = 512, 1024, 8192, 2**24
# Of a job so large that these would be more, shards grow: the manifest stays below half of what a reader takes.
_MOST_JOB_SHARDS = 2**16
# Of views that each thread of a CPU asks the teacher for at once: what is larger leaves its cache, at half the speed.
_PIXELS_AT_ONCE = 2**18


class Labeler:
    """A teacher at work on a device: labels any range of positions of a label set, in fixed batches."""

    def __init__(
        self,
        teacher: Teacher,
        images: ImageSet,
        rule: ViewRule,
        seed: int,
        device: torch.device,
        memory: ImageMemory | None = None,
    ) -> None:
        """`memory`: where the images lie, see `bank.ImageBank`."""
        if teacher.num_classes != images.num_classes:
            raise DataError(
                f"the teacher has {teacher.num_classes} classes, the images {images.num_classes}: pass `classes=FILE` "
                f"with the names of the teacher's classes"
            )
        self._teacher = teacher.to(device).to(memory_format=torch.channels_last).eval()
        self._views = drawn_by(rule, seed).of(images)
        self.bank = ImageBank(images, device, memory)
        self._device = device
        side = teacher.spec.input_size or images.size
        on_cpu = device.type == "cpu"
        self._views_at_once = max(1, _PIXELS_AT_ONCE * torch.get_num_threads() // side**2) if on_cpu else None

    @torch.inference_mode()
    def batches(self, start: int, end: int, batch_size: int, codec: Codec) -> Iterator[Logits]:
        """Labels of the views at positions start ... end - 1, a batch at a time, cut to what `codec` keeps.

        Raises:
            DataError: a logit is NaN or infinite, naming the image and view.
        """
        positions = np.arange(start, end)
        drawn = self._views.draw(positions)  # at once: a batch at a time it would take twenty times as long
        previous: tuple[Callable[[], NDArray[np.float32]], slice] | None = None
        for first in range(0, end - start, batch_size):
            batch = slice(first, first + batch_size)
            current = self._launch(drawn.take(batch)), batch
            if previous is not None:
                yield self._finish(*previous, positions, codec)
            previous = current
        if previous is not None:
            yield self._finish(*previous, positions, codec)

    def _launch(self, params: ViewParams) -> Callable[[], NDArray[np.float32]]:
        """Set a batch to work; what comes back waits for its logits. So a GPU is busy while the last one is kept."""
        on_gpu = self._device.type == "cuda"
        together = self._views_at_once or len(params)
        with torch.autocast(self._device.type, dtype=torch.float16, enabled=on_gpu):
            parts = [
                self._teacher(self.bank.render(params.take(slice(first, first + together)))).float()
                for first in range(0, len(params), together)
            ]
        logits = torch.cat(parts)
        if not on_gpu:
            return lambda: logits.cpu().numpy()
        copied = torch.empty(logits.shape, dtype=logits.dtype, pin_memory=True).copy_(logits, non_blocking=True)
        done = torch.cuda.Event()
        done.record()

        def wait() -> NDArray[np.float32]:
            done.synchronize()
            return copied.numpy()

        return wait

    def _finish(
        self, logits: Callable[[], NDArray[np.float32]], batch: slice, positions: NDArray[np.int64], codec: Codec
    ) -> Logits:
        values = logits()
        self._check(values, positions[batch])
        return codec.keep(values)

    def _check(self, values: NDArray[np.float32], positions: NDArray[np.int64]) -> None:
        bad = ~np.isfinite(values).all(axis=1)
        if bad.any():
            rows, numbers = self._views.rows_and_numbers(positions[[int(bad.argmax())]])
            image_id = int(self._views.images.ids[rows[0]])
            raise DataError(
                f"the teacher's logits of image {image_id}, view {int(numbers[0])} are not finite; check the checkpoint"
            )

    def shard(self, spec: LabelSpec, index: int) -> bytes:
        """The bytes of shard `index`."""
        start = index * spec.shard_views
        end = start + spec.views_in_shard(index)
        batches = self.batches(start, end, spec.batch_size, spec.codec)
        return encode_shard(spec, index, Logits.concatenate(list(batches)))


def specify(
    teacher: Teacher,
    images: ImageSet,
    rule: ViewRule,
    *,
    views_per_image: int,
    seed: int,
    batch_size: int,
    codec: str | None = None,
    k: int | None = None,
    bits: int = 16,
    device: torch.device,
    shard_views: int | None = None,
) -> LabelSpec:
    """The label set that a relabel job will make; a step for `bits` is fixed from a pilot of views.

    Args:
        views_per_image: V, at least 1.
        batch_size: the teacher's batch.
        codec: by default "topk" where k is given, else "dense".
        k, bits: see `lpqld.codecs.codec_for`.
        shard_views: about how many labels a shard holds; default: by the size of the job (`shard_size`).
    """
    if views_per_image < 1 or batch_size < 1:
        raise ConfigError(f"views and batch size must be at least 1, found {views_per_image} and {batch_size}")
    num_views = images.num_images * views_per_image
    pilot = Logits(np.zeros((1, images.num_classes), np.int32), np.zeros((1, images.num_classes), np.float32))
    name = codec or default_codec_name(k)
    if needs_pilot(name, bits):
        labeler = Labeler(teacher, images, rule, seed, device)
        pilot = Logits.concatenate(list(labeler.batches(0, min(num_views, _PILOT_VIEWS), batch_size, Dense())))
    chosen = codec_for(name, k=k, bits=bits, num_classes=images.num_classes, pilot=pilot)
    return LabelSpec(
        num_images=images.num_images,
        num_classes=images.num_classes,
        num_views=num_views,
        full_views=views_per_image,
        codec=chosen,
        views=drawn_by(rule, seed),
        batch_size=batch_size,
        shard_views=shard_size(num_views, batch_size, chosen.kept(images.num_classes), shard_views),
        images=ImagesRef.of(images),
        teacher=TeacherRef.of(teacher.spec, teacher.fingerprint),
    )


def shard_size(num_views: int, batch_size: int, kept: int, wanted: int | None = None) -> int:
    """Labels in a shard, a whole number of batches: by the size of the job, whoever runs it on however many workers.

    Args:
        num_views: labels in the job.
        batch_size: the teacher's batch.
        kept: classes kept per label.
        wanted: about how many instead.
    """
    if wanted is None:
        usual = min(max(num_views // _JOB_SHARDS, _FEWEST_SHARD_VIEWS), _MOST_SHARD_VIEWS, _SHARD_LOGITS // kept)
        wanted = max(usual, -(-num_views // _MOST_JOB_SHARDS))
    most = min(MAX_SHARD_VIEWS, MAX_SHARD_LOGITS // kept)
    return max(1, min(-(-wanted // batch_size), most // batch_size)) * batch_size
