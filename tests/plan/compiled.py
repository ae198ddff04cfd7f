"""A job of chosen sizes, planned and compiled, so that the two can be compared. Nothing is run."""

import dataclasses

import jax
import numpy as np
from jax.sharding import AbstractMesh

from codir_jax.models.transformer import TransformerConfig
from codir_jax.objectives import codir, distill, finetune, masked_lm
from codir_jax.plan import compiled as compiled_lib
from codir_jax.plan import planned as planned_lib
from codir_jax.plan.planned import PlannedStage
from codir_jax.sharding import collectives, rules
from codir_jax.stage import config as stage_config
from codir_jax.tasks import labelled_outline
from codir_jax.tasks import masked_lm as masked_lm_task

METHODS = {"codir": codir, "distill": distill, "finetune": finetune, "masked_lm": masked_lm}


def plan(
    *,
    method="codir",
    layers=(2, 4),
    hidden=128,
    heads=4,
    vocab=1000,
    length=64,
    batch_size=256,
    mesh=(8, 1, 1),
    num_train=4096,
    cache="off",
    pretrains=False,
    objective=(),
    overrides=(),
    seen_words=0,
    distances=None,
) -> PlannedStage:
    """A job on an abstract mesh; layers of student and teacher; number of words that occur, 0: not known;
    rows of distances on each side."""
    if pretrains:
        preset = ("pretrain",) if method == "codir" else ()
        config = stage_config.default_config(METHODS[method].default_config(*preset), "masked_lm")
        config.data.update({"batch_size": batch_size, "max_length": length})
    else:
        config = stage_config.default_config(METHODS[method].default_config())
        config.data.update({"batch_size": batch_size, "max_length": length, "num_length_buckets": 1})
        config.teacher.cache = cache
    config.mesh.update(dict(zip(rules.MESH_AXES, mesh, strict=True)))
    config.train.total_epochs = 3.0
    config.student.num_layers = layers[0]
    for key, value in (*objective, *overrides):
        section = config.objective.negatives if key in config.objective.get("negatives", {}) else config
        for part in key.split(".")[:-1]:
            section = section[part]
        section[key.split(".")[-1]] = value
    teacher = TransformerConfig(
        family="bert" if distances is None else "deberta-v2",
        relative_span=distances,
        vocab_size=vocab,
        hidden_size=hidden,
        num_layers=layers[1],
        num_heads=heads,
        intermediate_size=4 * hidden,
        max_positions=length,
        type_vocab_size=2,
        layer_norm_eps=1e-12,
        pad_token_id=0,
        position_offset=0,
    )
    abstract = AbstractMesh(mesh, rules.MESH_AXES)
    if pretrains:
        outline = masked_lm_task.outline(config, num_train, length, None, "cpu")
    else:
        outline = labelled_outline.of_lengths(config, num_train, np.asarray([length]), 2, False, "", "cpu")
        if seen_words:
            outline = dataclasses.replace(outline, seen_tokens=np.arange(seen_words))
    return planned_lib.of_config(config, teacher, outline, abstract)


def compile_step(planned: PlannedStage):
    """{"arguments", "temporary", "flops", "sent": {kind: {"count", "bytes"}}} of the step compiled for fake devices."""
    compiled = compiled_lib.lower(planned, jax.devices()[: planned.stage.mesh.size]).compile()
    memory = compiled.memory_analysis()
    return {
        "arguments": memory.argument_size_in_bytes,
        "temporary": memory.temp_size_in_bytes,
        "flops": compiled.cost_analysis()["flops"],
        "sent": collectives.totals(collectives.parse(compiled.as_text())),
    }
