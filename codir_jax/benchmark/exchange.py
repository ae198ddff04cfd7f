"""What the devices send each other in a step, read from compiled programs, and what of it grows with what."""

import dataclasses
from collections import Counter
from typing import Any

import jax
import numpy as np

from codir_jax.benchmark import subject
from codir_jax.benchmark.subject import Subject
from codir_jax.data.batch import Column, empty
from codir_jax.sharding import collectives
from codir_jax.sharding.collectives import Collective


def measure(of: Subject) -> dict[str, Any]:
    """Collectives of the step with a live teacher, compiled at single and double batch and width, and not run.

    With b(B, H) the bytes at batch B and hidden size H, b(2B, 2H) - b(2B, H) - b(B, 2H) + b(B, H) is what grows with
    the product of the two: activations that are sent. It is 0 where only gradients (H) and features (B) are.

    Returns:
      {"num_devices", "batch_size", "length", "count", "bytes", "kinds": {kind: {"count", "bytes"}}, "grows_with_batch":
      ["2 x all-gather f32[32,128]", ...], "bytes_double_batch", "bytes_double_width", "bytes_double_both",
      "batch_times_width_bytes"}. Bytes are of one device.
    """
    length = of.config.data.max_length
    found = {(b, w): _collectives(of, b, w, length) for b in (1, 2) for w in (1, 2)}
    num_bytes = {key: sum(one.num_bytes for one in some) for key, some in found.items()}
    growing = Counter(collectives.arrays(found[1, 1])) - Counter(collectives.arrays(found[2, 1]))
    return {
        "num_devices": len(jax.devices()),
        "batch_size": of.config.data.batch_size,
        "length": length,
        "count": len(found[1, 1]),
        "bytes": num_bytes[1, 1],
        "kinds": collectives.totals(found[1, 1]),
        "grows_with_batch": [f"{n} x {kind} {shape}" for (kind, shape), n in sorted(growing.items())],
        "bytes_double_batch": num_bytes[2, 1],
        "bytes_double_width": num_bytes[1, 2],
        "bytes_double_both": num_bytes[2, 2],
        "batch_times_width_bytes": num_bytes[2, 2] - num_bytes[2, 1] - num_bytes[1, 2] + num_bytes[1, 1],
    }


def _collectives(of: Subject, batch_times: int, width_times: int, length: int) -> list[Collective]:
    config = of.config.copy_and_resolve_references()
    config.teacher.path = ""  # the sizes matter, not the weights
    config.student.update(
        {"init": "teacher", "num_layers": of.stage.student.config.num_layers, "init_layers": "uniform"}
    )
    config.data.batch_size *= batch_times
    sizes = of.stage.teacher.config
    sizes = dataclasses.replace(
        sizes,
        hidden_size=sizes.hidden_size * width_times,
        num_heads=sizes.num_heads * width_times,
        intermediate_size=sizes.intermediate_size * width_times,
    )
    changed = subject.make(config, model=sizes, fixed_length=length)
    abstract = changed.stage.abstract_state(live=True)
    step = changed.stage.initial_state.step(abstract)
    return collectives.parse(step.lower(*abstract, abstract_batch(changed, length)).compile().as_text())


def abstract_batch(of: Subject, length: int, columns: dict | None = None) -> dict:
    """Shapes of a training batch of `length` tokens on the devices; `columns`, name -> [num_train, ...], join it."""
    rows, feed = of.config.data.batch_size, of.stage.feed
    further = {name: Column(x.shape[1:], np.dtype(x.dtype)) for name, x in (columns or {}).items()}
    batch = empty({**feed.columns, **further}, rows, length=length)
    return {name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=feed.sharding) for name, x in batch.items()}
