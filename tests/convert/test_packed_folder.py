"""A folder of compressed weights: read as any other, bit for bit what was written, and no ordinary checkpoint."""

from pathlib import Path

import jax
import numpy as np
import pytest

from codir_jax.compression import methods, packed
from codir_jax.convert import pretrained, save
from codir_jax.convert.folder import weight_bytes
from codir_jax.models.heads import build_model
from codir_jax.processes.user_error import UserError

GOLDEN = Path(__file__).parents[1] / "models" / "golden"


@pytest.mark.parametrize("method", ["int8", "int3", "prune60", "rank2", "rank2+prune50+int4"])
@pytest.mark.parametrize("name", ["bert_seqcls", "roberta_mlm"])
def test_what_is_read_is_what_was_compressed(name, method, tmp_path):
    head = "masked_lm" if name.endswith("mlm") else "classification"
    source = pretrained.load_pretrained(GOLDEN / name, head=head)
    weights, _ = methods.compress(source.params, methods.parse(method))
    save.save_weights(tmp_path, source.config, weights, head=head, hf_config=source.hf_config)
    again = pretrained.load_pretrained(tmp_path, head=head)
    assert again.has_head and again.config == source.config
    jax.tree.map(np.testing.assert_array_equal, again.params, methods.tree_of(weights))
    assert not (tmp_path / "model.safetensors").exists()
    assert weight_bytes(tmp_path) == (tmp_path / packed.FILE).stat().st_size


def test_unpacked_it_is_an_ordinary_checkpoint_of_the_same_answers(tmp_path):
    source = pretrained.load_pretrained(GOLDEN / "bert_seqcls")
    weights, _ = methods.compress(source.params, methods.parse("rank3+int6"))
    save.save_weights(tmp_path, source.config, weights, head="classification")
    first = pretrained.load_pretrained(tmp_path)
    packed.unpack_folder(tmp_path)
    second = pretrained.load_pretrained(tmp_path)
    assert second.params["classifier"]["kernel"].shape == (12, 3)
    ids = np.array([[2, 5, 3]], np.int32)
    model = build_model(source.config, "classification", 3)
    a, b = (model.apply({"params": p.params}, ids, ids * 0 + 1, ids * 0).logits for p in (first, second))
    np.testing.assert_allclose(a, b, atol=1e-5)


def test_a_model_of_factors_is_written_as_one_and_an_ordinary_one_takes_its_place(tmp_path):
    source = pretrained.load_pretrained(GOLDEN / "bert_seqcls")
    tree = methods.tree_of(methods.compress(source.params, methods.parse("rank2"))[0])
    save.save_pretrained(tmp_path, source.config, tree)
    assert (tmp_path / packed.FILE).exists()
    jax.tree.map(np.testing.assert_array_equal, pretrained.load_pretrained(tmp_path).params, tree)
    save.save_pretrained(tmp_path, source.config, source.params)
    assert not (tmp_path / packed.FILE).exists()


def test_a_damaged_file_is_told(tmp_path):
    source = pretrained.load_pretrained(GOLDEN / "bert_seqcls")
    weights, _ = methods.compress(source.params, methods.parse("int4"))
    save.save_weights(tmp_path, source.config, weights, head="classification")
    content = (tmp_path / packed.FILE).read_bytes()
    (tmp_path / packed.FILE).write_bytes(content[:-40])
    with pytest.raises(UserError, match="damaged or incomplete"):
        pretrained.load_pretrained(tmp_path)
