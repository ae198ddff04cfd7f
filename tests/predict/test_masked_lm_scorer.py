"""Pseudo-log-likelihood of a masked LM: against one pass a token, by hand."""

import jax
import numpy as np
import pytest

from codir_jax.convert import save
from codir_jax.data.tokenizer import save_tokenizer
from codir_jax.models.heads import build_model, init_params
from codir_jax.predict import load
from codir_jax.processes.user_error import UserError
from codir_jax.sharding.rules import unbox
from tests.objectives import tiny
from tests.words import WORDS, tokenizer


def test_every_token_is_masked_by_itself(tmp_path):
    config = tiny.sizes(1).__class__(**{**vars(tiny.sizes(1)), "vocab_size": len(WORDS)})
    module = build_model(config, "masked_lm")
    params = jax.device_get(unbox(init_params(module, jax.random.key(0))))
    save.save_pretrained(tmp_path, config, params, head="masked_lm")
    words = tokenizer()
    words.mask_token = "[MASK]"
    save_tokenizer(words, tmp_path)
    model = load.load_scorer(str(tmp_path), batch_size=2)
    assert not model.is_probability
    texts = ["the cat sat", "cat", "sat zebra"]
    for text, one in zip(texts, model.score(texts), strict=True):
        ids = np.array(tokenizer()(text)["input_ids"], np.int32)
        expected = 0.0
        for place in range(1, len(ids) - 1):
            masked = ids.copy()
            masked[place] = WORDS.index("[MASK]")
            logits = module.apply({"params": params}, masked[None], np.ones_like(masked)[None], masked[None] * 0).logits
            expected += float(jax.nn.log_softmax(logits[0, place])[ids[place]])
        assert one.log_score == pytest.approx(expected, rel=1e-4)
        assert one.num_words == len(text.split()) and one.num_unknown == ("zebra" in text)
    with pytest.raises(UserError, match="16 positions"):
        model.score(["cat " * 20])
