"""DeBERTa-v3: both forms of its config.json, what v2 has and v3 has not, a narrower student."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from codir_jax.convert.pretrained import load_pretrained
from codir_jax.models import deberta_v2
from codir_jax.models.contract import family

FOLDER = Path(__file__).parent / "golden" / "deberta_v2_seqcls"
TOLD = json.loads((FOLDER / "config.json").read_text())


def test_a_config_is_read_in_both_forms_and_written_back():
    config = deberta_v2.read_config(TOLD)
    assert (config.relative_span, config.max_length, config.has_positions) == (8, 44, False)
    assert deberta_v2.read_config({**TOLD, "pos_att_type": "p2c|c2p"}) == config
    assert deberta_v2.read_config(deberta_v2.write_config(config)) == config


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"relative_attention": False}, "relative_attention False is not supported: DeBERTa-v3 models have True"),
        ({"position_biased_input": True}, "position_biased_input True is not supported"),
        ({"share_att_key": False}, "share_att_key False is not supported"),
        ({"norm_rel_ebd": "none"}, "norm_rel_ebd 'none' is not supported: DeBERTa-v3 models have 'layer_norm'"),
        ({"type_vocab_size": 2}, "type_vocab_size 2 is not supported"),
        ({"conv_kernel_size": 3}, "conv_kernel_size 3 is not supported"),
        ({"pooler_dropout": 0.1}, "pooler_dropout 0.1 is not supported"),
        ({"pos_att_type": ["c2p"]}, r"pos_att_type \['c2p'\] is not supported"),
        ({"embedding_size": 6}, "embedding_size 6 is not supported: DeBERTa-v3 models have 12 here"),
        ({"max_relative_positions": 40}, "max_relative_positions 40 is not supported"),
        ({"position_buckets": -1}, "position_buckets: expected a whole number"),
        ({"position_buckets": 1}, "position_buckets: expected a whole number, 2 to"),
    ],
)
def test_other_settings_are_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        deberta_v2.read_config({**TOLD, **changed})


def test_students_keep_the_distances_of_their_teacher():
    loaded = load_pretrained(FOLDER, head="classification")
    table = loaded.params["encoder"]["distances"]["embedding"]
    shrink = family("deberta-v2").shrink
    _, of_layers = shrink["layers"](loaded.config, loaded.params, num_layers=1, layers="2")
    np.testing.assert_array_equal(of_layers["encoder"]["distances"]["embedding"], table)
    narrower, of_width = shrink["width"](loaded.config, loaded.params, hidden_size=8)
    assert narrower.num_heads == 2
    cut = of_width["encoder"]["distances"]
    columns = [int(np.flatnonzero((table == column[:, None]).all(axis=0))[0]) for column in cut["embedding"].T]
    assert sorted(set(columns)) == columns and len(columns) == 8
    norm = loaded.params["encoder"]["distances"]["norm"]["scale"]
    np.testing.assert_array_equal(cut["norm"]["scale"], norm[columns])


@pytest.mark.parametrize("legacy", [False, True])
def test_the_masked_lm_is_read_under_the_names_that_legacy_says(tmp_path, legacy):
    folder = FOLDER.with_name("deberta_v2_mlm")
    expected = load_pretrained(folder, head="masked_lm")
    tensors = load_file(folder / "model.safetensors")
    for other, ours in deberta_v2.MOVED.items():
        for name in [name for name in tensors if name.startswith(ours)]:
            tensors[name.replace(ours, other)] = tensors.pop(name)
    save_file(tensors, tmp_path / "model.safetensors")
    told = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**told, "legacy": legacy}))
    found = load_pretrained(tmp_path, head="masked_lm")
    # transformers' class takes the head of the other names for another one, and so do we.
    assert found.has_head is not legacy
    if not legacy:
        assert found.fingerprint == expected.fingerprint
