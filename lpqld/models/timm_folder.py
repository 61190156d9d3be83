"""Trained networks as folders that timm opens, and that this project opens as teachers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import nn

from lpqld.errors import ConfigError
from lpqld.models.teacher_spec import METADATA_KEY, TeacherSpec
from lpqld.storage import canonical_json, write_atomically

MODEL_FILE, CONFIG_FILE = "model.safetensors", "config.json"


def save_model(folder: Path, network: nn.Module, spec: TeacherSpec) -> None:
    """Write weights and configuration.

    `model.safetensors` has `spec` in its metadata, so that `load_teacher` takes it. `config.json` is timm's, so
    that `timm.create_model("local-dir:FOLDER", pretrained=True)` opens networks of timm's, with their input size, mean,
    std and class names; for a built-in network it says the same, for people.

    Args:
        folder: made where there is none.
        network: as `architectures.build` made it.
        spec: what it is, and what it expects of its input.

    Raises:
        ConfigError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"cannot write {folder}: {error.strerror or error}. Choose a folder that you may write"
        ) from error
    side = spec.input_size
    config: dict[str, Any] = {"mean": list(spec.mean), "std": list(spec.std), "interpolation": spec.interpolation}
    config |= {} if side is None else {"input_size": [3, side, side]}
    names = {} if spec.class_names is None else {"label_names": list(spec.class_names)}
    if hasattr(network, "pretrained_cfg"):
        from timm.models import save_for_hf  # noqa: PLC0415  (loaded already: it is a network of timm's)

        save_for_hf(network, str(folder), model_config=names, safe_serialization=True, data_config=config)
    else:
        about = {"architecture": spec.architecture, "num_classes": spec.num_classes, **names, "pretrained_cfg": config}
        write_atomically(folder / CONFIG_FILE, json.dumps(about, indent=2).encode())
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in network.state_dict().items()}
    metadata = {METADATA_KEY: canonical_json(spec.to_json()).decode(), "format": "pt"}
    write_atomically(folder / MODEL_FILE, safetensors.torch.save(tensors, metadata))
