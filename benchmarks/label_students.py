"""Students of `label_codecs.py`: the master labels, what of them fits a budget, and one training."""

from __future__ import annotations

import io
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from label_variants import Variant

from lpqld.codecs import Codec, Dense, Logits, LowRank, dense_ids
from lpqld.images import ImageSet
from lpqld.labels import EncodedLabels, Labeler, Labels, encode, fill_budget, specify
from lpqld.models import Teacher, accuracy, load_teacher
from lpqld.storage import canonical_json, fingerprint, write_atomically
from lpqld.training import Recipe, Student, ViewDataset, train
from lpqld.views import ViewRule

IMAGES_PER_CLASS, SIZE, VIEWS_PER_IMAGE = 10, 32, 30
SEED = 0  # of images, views and the split; students have seeds of their own
RULE = ViewRule(crop_scale=(0.25, 1.0))
RECIPE = Recipe(architecture="cifar_resnet20", epochs=120, batch_size=100, lr=2e-3, temperature="20:2:step", ca="fit")
_CPU = torch.device("cpu")
_TEACHER_BATCH = 25  # twice as fast a view as 100 on a CPU


@dataclass(frozen=True)
class Experiment:
    """What all variants share.

    Attributes:
        images: students train on views of them.
        labels: the master, all logits of all views.
        validation, test: halves of the evaluation images; neither decides anything here.
        recipe: the common one.
        budget: bytes on disk of every label set, manifest included.
        facts: what a reader of the results wants to know of the teacher.
    """

    images: ImageSet
    labels: Labels
    validation: ImageSet
    test: ImageSet
    recipe: Recipe
    budget: int
    facts: dict[str, Any] = field(default_factory=dict)


class HalfStudent(Student):
    """A student whose convolutions take bfloat16, as `train` has it on CUDA; half the time on recent CPUs too."""

    def forward(self, views: torch.Tensor) -> torch.Tensor:
        """Logits [B, C] as float32."""
        with torch.autocast(views.device.type, dtype=torch.bfloat16):
            return super().forward(views).float()


def tiny200(data: Path, cache: Path, budget: int, say: Callable[[str], None]) -> Experiment:
    """10 random Tiny-ImageNet images of each of 200 classes at 32 px, labelled by EfficientNet-Lite0.

    Args:
        data: the folder that holds `tiny200` and `weights`.
        cache: where the master's logits are kept, so that it is labelled once.
        budget: bytes on disk of every label set.
        say: told of progress.
    """
    images = ImageSet.open(str(data / "tiny200" / "train.parquet"), size=SIZE).sample_per_class(IMAGES_PER_CLASS, SEED)
    held_out = ImageSet.open(str(data / "tiny200" / "val.parquet"), size=SIZE, class_names=images.class_names)
    validation, test = held_out.split(0.5, SEED)
    # Normalised with 0.5 it is right on 40.0 % of the validation half, with ImageNet's mean and std on 26.9 %.
    teacher = load_teacher(
        data / "weights" / "tf_efficientnet_lite0_timm.pth",
        architecture="tf_efficientnet_lite0",
        input_size=128,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        classes="imagenet-1k",
        image_class_names=images.class_names,
    )
    labels = master_labels(teacher, images, RULE, VIEWS_PER_IMAGE, cache, say)
    name = "teacher-accuracy.json"
    if not (cache / name).exists():
        found = {
            "validation": accuracy(teacher, validation, _TEACHER_BATCH),
            "test": accuracy(teacher, test, _TEACHER_BATCH),
        }
        write_atomically(cache / name, canonical_json(found))
    facts = {"teacher_accuracy": json.loads((cache / name).read_bytes())}
    return Experiment(images, labels, validation, test, RECIPE, budget, facts)


def master_labels(
    teacher: Teacher, images: ImageSet, rule: ViewRule, views_per_image: int, cache: Path, say: Callable[[str], None]
) -> Labels:
    """All logits of all views at fp16, one file a view number in `cache`; what is there already is not made again."""
    spec = specify(
        teacher, images, rule, views_per_image=views_per_image, seed=SEED, batch_size=_TEACHER_BATCH, device=_CPU
    )
    key = fingerprint(canonical_json([teacher.fingerprint, images.fingerprint, rule.to_json(), SEED, _TEACHER_BATCH]))
    labeler = Labeler(teacher.to(memory_format=torch.channels_last), images, rule, SEED, _CPU)
    parts = []
    for view in range(views_per_image):
        path = cache / key[:16] / f"view-{view:03d}.npy"
        if not path.exists():
            say(f"labelling view {view + 1} of {views_per_image} of every image")
            start = view * images.num_images
            batches = list(labeler.batches(start, start + images.num_images, _TEACHER_BATCH, Dense()))
            sink = io.BytesIO()
            np.save(sink, Logits.concatenate(batches).values.astype(np.float16))
            write_atomically(path, sink.getvalue())
        parts.append(np.load(path).astype(np.float32))
    logits = np.concatenate(parts)
    return Labels(spec, Logits(dense_ids(*logits.shape), logits))


def stored(experiment: Experiment, variant: Variant) -> EncodedLabels | None:
    """The labels of `variant` as they lie on disk: the most that fit the budget, or all; None for hard labels.

    Raises:
        ConfigError: the budget is below one label per image.
    """
    codec = codec_of(experiment, variant)
    if codec is None:
        return None
    if not variant.equal_bytes:
        return encode(experiment.labels, codec)
    return fill_budget(experiment.labels, codec, experiment.budget)


def codec_of(experiment: Experiment, variant: Variant) -> Codec | None:
    """The codec of `variant` for these labels."""
    return None if variant.codec is None else variant.codec(experiment.labels.logits)


def setup_of(experiment: Experiment, variant: Variant) -> dict[str, Any]:
    """What decides a training but for its seed; a result that was made by another one is not this one's."""
    codec, spec = codec_of(experiment, variant), experiment.labels.spec
    document = {
        "codec": described(codec),
        "budget_bytes": experiment.budget if variant.equal_bytes and codec else None,
        "images": experiment.images.fingerprint,
        "view_rule": spec.view_rule.to_json(),
        "master_views_per_image": spec.full_views,
        "recipe": replace(experiment.recipe, **variant.recipe).to_json(),
    }
    return json.loads(canonical_json(document))


def described(codec: Codec | None) -> dict[str, Any] | None:
    """The codec's options; of a basis only its rank, since its last bits depend on the machine that computed it."""
    if codec is None:
        return None
    rank = {"rank": codec.rank} if isinstance(codec, LowRank) else {}
    return {**{key: value for key, value in codec.to_json().items() if len(str(value)) < 64}, **rank}


def train_student(experiment: Experiment, variant: Variant, labels: EncodedLabels | None, seed: int) -> dict[str, Any]:
    """Train one student on what `stored` gave and measure it after its last epoch.

    Returns:
        JSON values: accuracies as fractions, bytes on disk, seconds, versions.
    """
    recipe = replace(experiment.recipe, **variant.recipe)
    images, master = experiment.images, experiment.labels.spec
    if labels is None:
        data = ViewDataset.hard(images, master.view_rule, master.seed, recipe.epochs, _CPU)
    else:
        data = ViewDataset(images, labels.decode())
    student = HalfStudent(recipe, images.num_classes, seed).to(memory_format=torch.channels_last)
    wall, cpu = time.perf_counter(), time.process_time()
    losses = [metrics.loss for metrics in train(student, data, recipe, seed=seed)]
    seconds = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    halves = {"test": experiment.test, "validation": experiment.validation}
    return {
        "variant": variant.name,
        "seed": seed,
        "accuracy": {name: accuracy(student, half) for name, half in halves.items()},
        "last_loss": losses[-1],
        "label_bytes": 0 if labels is None else labels.num_bytes,
        "num_views": data.num_labels,
        "views_per_image": data.num_labels / images.num_images,
        "seconds": {name: round(value, 1) for name, value in seconds.items()},
        "setup": setup_of(experiment, variant),
        **experiment.facts,
        "precision": "bfloat16 convolutions, float32 weights",
        "cpu": cpu_name(),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Of Python and the libraries that do the work."""
    return {"python": platform.python_version()} | {
        name: metadata.version(name) for name in ("lpqld", "numpy", "torch", "timm")
    }


def cpu_name() -> str:
    """The processor's name, and how many of its cores are here."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.is_file() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores, one thread"
