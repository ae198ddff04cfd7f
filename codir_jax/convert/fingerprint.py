"""What tells two models apart by a short text: a hash of all that decides what a model computes."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import traverse_util


def of_weights(params: Mapping[str, Any]) -> str:
    """sha256, hex, of every weight's path, shape and float32 bytes: equal if and only if the weights are."""
    digest = hashlib.sha256()
    for path, leaf in sorted(traverse_util.flatten_dict(dict(params)).items()):
        array = np.ascontiguousarray(leaf, dtype="<f4")
        digest.update(f"{'/'.join(path)} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def of_model(config: Any, params: Mapping[str, Any]) -> str:
    """sha256, hex, of a model's sizes and constants and of its weights.

    The weights alone do not tell what a model computes: another number of attention heads or another epsilon in
    config.json changes every output and no weight.
    """
    fields = json.dumps(dataclasses.asdict(config), sort_keys=True)
    return hashlib.sha256(f"{fields}\n{of_weights(params)}".encode()).hexdigest()
