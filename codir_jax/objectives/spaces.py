"""Where the contrast compares states: through trained projections, or as they are, centred or not.

    projected  unit( W x + b ), W trained for each side (`projections.project`)
    centred    unit( x - mean of the teacher's states ): a few features, much the same in every state, would make all
               cosines 1
    raw        unit( x )

In the last two a student of another width goes through one linear map. A layer is a group, or all layers are one
vector, each with the same length in it.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from codir_jax.losses.contrastive import unit_rows
from codir_jax.objectives import width_map
from codir_jax.objectives.contract import Setting
from codir_jax.objectives.contrastive_term import SIDES
from codir_jax.objectives.projections import init_projection, project

# Entry of `params` with the map of a student of another width.
MAP = "contrast_map"


def num_groups(config: ConfigDict, num_matches: int) -> int:
    """Vectors of an example: one of all matched layers, or one a layer."""
    return 1 if config.layer_aggregation == "concat" else num_matches


def feature_size(config: ConfigDict, num_matches: int, teacher_width: int) -> int:
    """Numbers of a feature of a group."""
    if config.contrast.space == "projected":
        return config.projection_dim
    return teacher_width * (num_matches if config.layer_aggregation == "concat" else 1)


def init(rngs, config: ConfigDict, setting: Setting, num_matches: int) -> dict:
    """Weights of both sides, name -> tree.

    Args:
      rngs: of the student's and of the teacher's.
    """
    widths = {side: model.config.hidden_size for side, model in zip(SIDES, _models(setting), strict=True)}
    is_equal = widths["student"] == widths["teacher"]
    if config.contrast.space != "projected":
        return {} if is_equal else {MAP: width_map.init(rngs[0], widths["student"], widths["teacher"])}
    of_side = rngs[0], rngs[0] if config.equal_start and is_equal else rngs[1]
    return {
        f"projection_{side}": init_projection(rng, config, num_matches, widths[side])
        for side, rng in zip(SIDES, of_side, strict=True)
    }


def _models(setting: Setting):
    return setting.student, setting.teacher


def centre(config: ConfigDict, states: jax.Array, mask: jax.Array) -> jax.Array | None:
    """Float32 [matches, width], the mean of the teacher's states over the whole batch; None where none is subtracted.

    Args:
      states: float [rows, matches, width]. mask: [rows], 1 where a row counts.
    """
    if config.contrast.space != "centred":
        return None
    mask = mask.astype(jnp.float32)
    total = jnp.einsum("rmw,r->mw", states.astype(jnp.float32), mask)
    return jax.lax.stop_gradient(total / jnp.maximum(mask.sum(), 1.0))


def features(config: ConfigDict, params, side: str, states: jax.Array, middle: jax.Array | None) -> jax.Array:
    """Unit features, float32 [rows, groups, size].

    Args:
      params: holds what `init` made. side: "student" or "teacher".
      states: float [rows, matches, width]. middle: of `centre`.
    """
    if config.contrast.space == "projected":
        return project(params[f"projection_{side}"], states, config)
    states = width_map.apply(params.get(MAP) if side == "student" else None, states)
    units = unit_rows(states if middle is None else states - middle)
    return unit_rows(units.reshape(len(units), 1, -1)) if config.layer_aggregation == "concat" else units
