"""The word table of a run, cut down to the words of its train set.

A word that the train set does not hold has no gradient: of its row AdamW would only decay the weights. So a run keeps,
updates and sends the rows that occur, and the others stay as they are. Of MiniLM on CoLA that is 6,000 of 30,522 rows,
which is half of all the student's weights left out of every step. What is judged and saved has the whole table again.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from codir_jax.compression import factors
from codir_jax.models.word_table import WORD_TABLE
from codir_jax.objectives.contract import Objective
from codir_jax.stage.models import Model

MODES = ("seen", "all")
# A table is cut to a multiple of so many rows, which splits evenly over as many devices.
MULTIPLE = 128
# Where a larger share of the words occurs, cutting them out costs more than it saves.
LARGEST_SHARE = 0.9


@dataclasses.dataclass(frozen=True, eq=False)
class SeenWords:
    """Rows of a word table that are trained.

    Attributes:
      ids: int32 [n], ascending token ids. vocab_size: rows of the whole table.
    """

    ids: np.ndarray
    vocab_size: int

    @functools.cached_property
    def places(self) -> np.ndarray:
        """int32 [vocab_size]: token id -> its row in the cut table; 0 for ids that are not in it."""
        places = np.zeros(self.vocab_size, np.int32)
        places[self.ids] = np.arange(len(self.ids), dtype=np.int32)
        return places

    def cut(self, params):
        """Weights of a model, arrays of numpy or jax, with the cut table."""
        return _with_table(params, _table(params)[self.ids])

    def cut_model(self, model: Model) -> Model:
        """A model of the cut table."""
        pad = int(self.places[model.config.pad_token_id])
        sizes = dataclasses.replace(model.config, vocab_size=len(self.ids), pad_token_id=pad)
        params = None if model.params is None else self.cut(model.params)
        return dataclasses.replace(model, module=model.module.clone(config=sizes), params=params, config=sizes)

    def filler(self, start, places):
        """A function: trained weights on the devices -> the same with the whole table.

        Args:
          start: numpy, with the whole table: of it are the rows that were not trained.
          places: tree of shardings of the whole weights.
        """
        fill = jax.jit(lambda rest, rows: rest.at[self.ids].set(rows), out_shardings=_table(places))
        return lambda params: _with_table(params, fill(_table(start), _table(params)))

    def on_cut_tables(self, objective: Objective) -> Objective:
        """An objective, made for models of cut tables, that takes batches of the data's own token ids."""

        def on_cut(loss):
            def of_batch(params, frozen, state, batch, step):
                ids = jnp.asarray(self.places)[batch["input_ids"]]
                return loss(params, frozen, state, {**batch, "input_ids": ids}, step)

            return of_batch

        return objective.with_losses(on_cut)


def seen_words(options: ConfigDict, tokens: np.ndarray | None, models: list[Model]) -> SeenWords | None:
    """The rows that a run trains; None where it trains the whole table.

    Args:
      options: `student` section of the config.
      tokens: int32, ids that the inputs of a run can hold; None where they are not known.
      models: student, and teacher if there is one; they share a vocabulary.
    """
    if options.word_rows == "all" or tokens is None or options.init == "random":
        return None
    if any(factors.are_in(_table(model.params)) for model in models if model.params is not None):
        return None  # every factor has a part in every row
    vocab_size = min(model.config.vocab_size for model in models)
    # A plan may be of models that have fewer words than its tokenizer.
    ids = np.union1d(tokens[tokens < vocab_size], [model.config.pad_token_id for model in models]).astype(np.int32)
    missing = -len(ids) % MULTIPLE
    if len(ids) + missing > LARGEST_SHARE * vocab_size:
        return None
    rest = np.setdiff1d(np.arange(vocab_size, dtype=np.int32), ids, assume_unique=True)
    return SeenWords(np.union1d(ids, rest[:missing]), vocab_size)


def _table(params) -> Any:
    for name in WORD_TABLE:
        params = params[name]
    return params


def _with_table(params, table):
    """The tree with another table; nothing of the given one is changed."""
    return _with(params, WORD_TABLE, table)


def _with(tree, path, leaf):
    name, *rest = path
    return {**tree, name: _with(tree[name], rest, leaf) if rest else leaf}
