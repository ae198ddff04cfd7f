"""Every family of encoders as teacher and student of CoDIR: layers cut from the teacher, its cache, what is saved."""

import json

import jax
import numpy as np
import pytest

from codir_jax import config as config_lib
from codir_jax.convert.pretrained import load_pretrained
from codir_jax.convert.save import save_pretrained
from codir_jax.data import tokenizer, tokenizer_training
from codir_jax.data.sets import demo
from codir_jax.models import contract
from codir_jax.models.heads import build_model, init_params
from codir_jax.sharding.rules import unbox
from codir_jax.stage import run

pytestmark = pytest.mark.slow
ENCODERS = [name for name, family in contract.families().items() if not family.heads]
SIZES = {"hidden_size": 16, "num_layers": 2, "num_heads": 2, "intermediate_size": 32, "max_positions": 66}
SMALL = {"data.demo_num_train": "64", "data.demo_num_dev": "32", "data.batch_size": "32", "train.total_epochs": "1"}


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """A folder with a tokenizer whose padding is 1, as RoBERTa's and MPNet's is."""
    small = [(key, value) for key, value in SMALL.items() if key.startswith("data.")]
    texts = demo.read(config_lib.load("configs/codir/finetune_teacher.py:tiny", small).data).splits["train"].texts_a
    folder = tmp_path_factory.mktemp("words")
    tokenizer.save_tokenizer(tokenizer_training.train_wordpiece(texts, 300), folder)
    whole = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    other = {0: 1, 1: 0}
    whole["model"]["vocab"] = {piece: other.get(i, i) for piece, i in whole["model"]["vocab"].items()}
    for token in whole["added_tokens"]:
        token["id"] = other.get(token["id"], token["id"])
    (folder / "tokenizer.json").write_text(json.dumps(whole), encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", ENCODERS)
def test_a_student_of_half_the_layers_is_trained_saved_and_read(name, words, tmp_path):
    own = tokenizer.load_tokenizer(words)
    assert own.pad_token_id == 1
    config = contract.family(name).from_scratch(len(own), 1, **SIZES)
    params = jax.tree.map(np.asarray, unbox(init_params(build_model(config), jax.random.key(0))))
    save_pretrained(tmp_path / "teacher", config, params)
    tokenizer.save_tokenizer(own, tmp_path / "teacher")
    told = {**SMALL, "teacher.path": str(tmp_path / "teacher"), "student.num_layers": "1", "teacher.cache": "on"}
    told["teacher.cache_dir"] = str(tmp_path / "cache")
    loaded = config_lib.load("configs/codir/finetune_distill.py:tiny,paper", list(told.items()))
    results = run.run(loaded, tmp_path / "run")
    assert np.isfinite(results["dev"]["matthews_correlation"])
    student = load_pretrained(tmp_path / "run" / "best")
    assert student.has_head and student.config.family == name and student.config.num_layers == 1
    (start,) = contract.family(name).start_layers("uniform", config, 1)
    chosen, other = (params["encoder"][f"layer_{i}"]["mlp_in"]["kernel"] for i in (start - 1, 2 - start))
    trained = student.params["encoder"]["layer_0"]["mlp_in"]["kernel"]
    assert 0 < np.abs(trained - chosen).max() < np.abs(trained - other).max()
