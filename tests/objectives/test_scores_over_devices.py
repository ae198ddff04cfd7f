"""The scores of a contrast on eight devices: each has its rows' anchors against everybody's keys, never all of both."""

import re

import jax
import jax.numpy as jnp
import pytest

from codir_jax.objectives import pair_supcon, supcl_seq
from codir_jax.objectives.sums import mean
from codir_jax.sharding import rules
from codir_jax.sharding.mesh import make_mesh

ROWS, VIEWS, DIM = 64, 2, 8


def _compiled(terms, config, key, text_ids):
    mesh = make_mesh({"data": 8, "fsdp": 1, "model": 1})
    split = rules.batch_sharding(mesh)
    batch = {"example_mask": jnp.ones(ROWS), "labels": jnp.arange(ROWS) % 2, "label_mask": jnp.ones(ROWS)}

    def loss(views, batch):
        with rules.on_mesh(mesh):
            return mean(terms(config, views, batch)[key])

    views = jnp.ones((ROWS, VIEWS, DIM))
    lowered = jax.jit(jax.grad(loss), in_shardings=(split, split)).lower(views, {**batch, "text_ids": text_ids})
    return lowered.compile().as_text()


@pytest.mark.parametrize("method", ["pair_supcon", "supcl_seq"])
def test_no_device_has_all_scores(method):
    if method == "pair_supcon":
        arguments = pair_supcon.instance_terms, pair_supcon.default_config(), "instance_loss"
        text_ids, anchors = jnp.arange(ROWS * VIEWS).reshape(ROWS, VIEWS), ROWS // 8
    else:
        arguments = supcl_seq.contrast_terms, supcl_seq.default_config(), "contrastive_loss"
        text_ids, anchors = jnp.arange(ROWS), ROWS * VIEWS // 8
    program = _compiled(*arguments, text_ids)
    keys = ROWS * VIEWS
    assert f"f32[{anchors},{keys}]" in program
    assert not re.findall(rf"(?:f32|pred|s32)\[(?:{ROWS}|{keys}),(?:{ROWS}|{keys})\]", program)
