"""A masked language model as a scorer of sentences: every token masked by itself.

    s(W) = sum over tokens of ln P(w_t | all the others)

(pseudo-log-likelihood, Salazar et al., ACL 2020). It is no probability of the sentence. It costs a pass a token.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from codir_jax.convert import pretrained
from codir_jax.convert.folder import model_folder
from codir_jax.data import tokenizer as tokenizer_lib
from codir_jax.models.heads import build_model
from codir_jax.predict.language_model import Score
from codir_jax.predict.sentence_reader import check_list, padded_length
from codir_jax.processes.user_error import UserError


def load(path: str, *, batch_size: int = 32) -> "MaskedLMScorer":
    """The masked LM in a folder with config.json, model.safetensors and tokenizer files.

    Raises:
      UserError: the folder is missing, damaged, or without a masked-LM head.
    """
    folder = model_folder(path, "model")
    source = pretrained.load_trained(folder, "masked_lm")
    tokenizer = tokenizer_lib.load_tokenizer(folder, source.config.vocab_size)
    if tokenizer.mask_token_id is None:
        raise UserError(f"the tokenizer of {path} has no mask token; a masked LM scores nothing without one")
    return MaskedLMScorer(source, tokenizer, batch_size)


@dataclasses.dataclass(frozen=True, eq=False)
class MaskedLMScorer:
    """Scores sentences.

    Attributes:
      source: the checkpoint. tokenizer: its tokenizer. batch_size: masked copies run together.
    """

    source: pretrained.Pretrained
    tokenizer: Any
    batch_size: int
    is_probability = False
    noise = None

    def faults(self, texts: Sequence[str]) -> list[tuple[int, str]]:
        """(place, what is wrong) of the sentences that it cannot score: those longer than the model's positions."""
        longest = self.source.config.max_length
        lengths = [len(ids) for ids in self.tokenizer(list(texts))["input_ids"]] if texts else []
        return [
            (place, f"{length} tokens, and the model has {longest} positions; shorten it")
            for place, length in enumerate(lengths)
            if length > longest
        ]

    def score(self, texts: Sequence[str]) -> list[Score]:
        """One score a sentence, in order; per word of white space, of which a token may be a part.

        Raises:
          UserError: a sentence is longer than the model's positions; none is scored.
        """
        check_list(texts)
        if faults := self.faults(texts):
            place, what = faults[0]
            raise UserError(f"sentence {place + 1}, {texts[place][:60]!r}: {what}")
        found = []
        for text in texts:
            encoded = self.tokenizer(text, return_special_tokens_mask=True)
            ids, special = np.array(encoded["input_ids"], np.int32), np.array(encoded["special_tokens_mask"], bool)
            words, unknown = len(text.split()), int((ids == self.tokenizer.unk_token_id).sum())
            score = sum(self._of_part(ids, part) for part in self._parts(np.flatnonzero(~special)))
            found.append(Score(score, score / max(words, 1), words, unknown))
        return found

    def _parts(self, places):
        return [places[at : at + self.batch_size] for at in range(0, len(places), self.batch_size)]

    def _of_part(self, ids, places) -> float:
        longest = self.source.config.max_length
        length = min(padded_length(len(ids)), longest)
        inputs = np.full((self.batch_size, length), self.tokenizer.pad_token_id, np.int32)
        inputs[:, : len(ids)] = ids
        mask = np.zeros_like(inputs)
        mask[:, : len(ids)] = 1
        rows, at = np.arange(len(places)), np.zeros((self.batch_size, 1), np.int32)
        inputs[rows, places], at[rows, 0] = self.tokenizer.mask_token_id, places
        wanted = np.zeros(self.batch_size, np.int32)
        wanted[rows] = ids[places]
        return float(np.asarray(self._run(self._params, inputs, mask, at, wanted), np.float64)[rows].sum())

    @functools.cached_property
    def _params(self):
        return jax.device_put(self.source.params)

    @functools.cached_property
    def _run(self):
        module = build_model(self.source.config, "masked_lm")

        def run(params, inputs, mask, at, wanted):
            logits = module.apply({"params": params}, inputs, mask, inputs * 0, positions=at).logits[:, 0]
            return jnp.take_along_axis(jax.nn.log_softmax(logits), wanted[:, None], axis=-1)[:, 0]

        return jax.jit(run)
