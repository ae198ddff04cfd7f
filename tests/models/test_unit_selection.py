"""Fewer inner units: an ordinary smaller model, which answers as before where the units that go did nothing."""

import dataclasses

import numpy as np
import pytest

from codir_jax.models import bert, contract
from codir_jax.processes.user_error import UserError

SIZES = dataclasses.replace(
    bert.BASE, vocab_size=9, hidden_size=4, num_layers=2, num_heads=2, intermediate_size=6, max_positions=8
)


def _params():
    rng = np.random.default_rng(0)

    def layer():
        return {
            "mlp_in": {"kernel": rng.normal(size=(4, 6)), "bias": np.arange(6.0)},
            "mlp_out": {"kernel": rng.normal(size=(6, 4)), "bias": np.zeros(4)},
        }

    return {"encoder": {"layer_0": layer(), "layer_1": layer(), "embeddings": {}}, "classifier": {}}


def test_the_units_that_move_the_output_least_go():
    params = _params()
    params["encoder"]["layer_0"]["mlp_in"]["kernel"][:, 3] = 0  # its way in
    params["encoder"]["layer_0"]["mlp_out"]["kernel"][1] = 0  # its way out
    config, smaller = contract.family("roberta").shrink["units"](SIZES, params, share=1 / 3)
    assert config == dataclasses.replace(SIZES, intermediate_size=4)
    assert smaller["encoder"]["layer_0"]["mlp_in"]["bias"].tolist() == [0, 2, 4, 5]
    kept = params["encoder"]["layer_0"]["mlp_out"]["kernel"][[0, 2, 4, 5]]
    np.testing.assert_array_equal(smaller["encoder"]["layer_0"]["mlp_out"]["kernel"], kept)
    assert smaller["encoder"]["layer_1"]["mlp_in"]["kernel"].shape == (4, 4)


def test_a_unit_and_its_gate_go_together():
    family = contract.family("modernbert")
    sizes = {"hidden_size": 4, "num_layers": 1, "num_heads": 1, "intermediate_size": 6, "max_positions": 8}
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(4, 12)), rng.normal(size=(6, 4))
    first[:, 3] = 0  # a unit's way in
    first[:, 6 + 1] = 0  # the gate of another one
    params = {"encoder": {"layer_0": {"mlp_in": {"kernel": first}, "mlp_out": {"kernel": second}}}}
    config, smaller = family.shrink["units"](family.from_scratch(9, 0, **sizes), params, share=1 / 3)
    assert config.intermediate_size == 4
    made = smaller["encoder"]["layer_0"]
    assert made["mlp_in"].keys() == {"kernel"}
    np.testing.assert_array_equal(made["mlp_in"]["kernel"], first[:, [0, 2, 4, 5, 6, 8, 10, 11]])
    np.testing.assert_array_equal(made["mlp_out"]["kernel"], second[[0, 2, 4, 5]])


@pytest.mark.parametrize("share", [0.0, 1.0, 0.01, 1.5])
def test_a_share_that_leaves_all_or_nothing_is_told(share):
    with pytest.raises(UserError, match="of 6 inner units leaves"):
        bert.FAMILY.shrink["units"](SIZES, None, share=share)
