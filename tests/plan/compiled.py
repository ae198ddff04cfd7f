"""A job of chosen sizes, planned and compiled, so that the two can be compared. Nothing is run."""

import dataclasses

import jax
import numpy as np
from jax.sharding import AbstractMesh

from codir_jax.benchmark import collectives
from codir_jax.models.transformer import TransformerConfig
from codir_jax.objectives import codir, distill, finetune, masked_lm
from codir_jax.plan import job as job_lib
from codir_jax.plan.job import Job
from codir_jax.plan.texts import Texts
from codir_jax.sharding import mesh as mesh_lib
from codir_jax.sharding import rules
from codir_jax.stage import build
from codir_jax.stage import config as stage_config
from codir_jax.stage.initial_state import InitialState, shardings_of
from codir_jax.training import optimizer
from codir_jax.training.step import make_train_step

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
) -> Job:
    """A job on an abstract mesh; layers of student and teacher."""
    if pretrains:
        preset = ("pretrain",) if method == "codir" else ()
        config = stage_config.pretraining_config(METHODS[method].default_config(*preset))
        config.data.update({"batch_size": batch_size, "max_length": length})
    else:
        config = stage_config.default_config(METHODS[method].default_config())
        config.data.update({"batch_size": batch_size, "max_length": length, "num_length_buckets": 1})
        config.teacher.cache = cache
    config.mesh.update(dict(zip(rules.MESH_AXES, mesh, strict=True)))
    config.train.total_epochs = 3.0
    for key, value in (*objective, *overrides):
        section = config.objective.negatives if key in config.objective.get("negatives", {}) else config
        for part in key.split(".")[:-1]:
            section = section[part]
        section[key.split(".")[-1]] = value
    teacher = TransformerConfig(
        family="bert",
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
    texts = Texts(num_train, np.asarray([length]), 2, False, "")
    student = dataclasses.replace(teacher, num_layers=layers[0])
    return job_lib.lay_out(config, student, teacher, texts, abstract, mesh_lib.rules_of(config.mesh))


def compile_step(job: Job):
    """{"arguments", "temporary", "flops", "sent": {kind: {"count", "bytes"}}} of the compiled step on one device."""
    config = job.config
    mesh = mesh_lib.make_mesh(config.mesh, jax.devices()[: job.mesh.size])
    rows, length = config.data.batch_size, job.batches.longest
    columns = {True: job.outputs.num_predictions, False: length}
    batch = {
        name: np.zeros((rows, columns[name.startswith("masked")]) if value.ndim == 2 else rows, value.dtype)
        for name, value in job_lib.example(Texts(1, np.ones(1), 2, False, ""), job.setting.head).items()
    }
    if job.cache_bytes:
        matches = len(distill.matches(config.objective, job.setting))
        batch["teacher_logits"] = np.zeros((rows, 2), np.float32)
        batch["teacher_pooled"] = np.zeros((rows, matches, job.teacher.hidden_size), np.float32)
    objective = build.make_objective(config.objective, job.setting)
    tx = optimizer.make_optimizer(config.optimizer, lambda step: 1e-4)
    start = InitialState(objective, tx, batch, mesh, job.rules, 0, config.train.prng_impl)
    state, frozen = start.abstract(without=() if job.is_live else ("teacher",))
    split = rules.batch_sharding(mesh, job.rules)
    batch = {name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=split) for name, x in batch.items()}
    step = make_train_step(
        objective,
        tx,
        prng_impl=config.train.prng_impl,
        shardings=(*shardings_of((state, frozen)), split),
        layout=(mesh, job.rules),
    )
    compiled = step.lower(state, frozen, batch).compile()
    memory = compiled.memory_analysis()
    return {
        "arguments": memory.argument_size_in_bytes,
        "temporary": memory.temp_size_in_bytes,
        "flops": compiled.cost_analysis()["flops"],
        "sent": collectives.totals(collectives.parse(compiled.as_text())),
    }
