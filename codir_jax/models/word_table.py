"""The word embedding of a transformer: looked up by ids and, transposed, the decoder of a masked LM."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from codir_jax.models.layers import weights_init
from codir_jax.models.products import product
from codir_jax.models.weights import Table, rows, transposed

# Where every model on an encoder has it, float32 [vocab, width].
WORD_TABLE = ("encoder", "embeddings", "word", "embedding")


class WordTable(Table):
    """Weights float32 [vocab, width]; `dtype` is that of what is looked up and of products.

    It is rounded after the look-up: gradients are added up in the dtype of what is looked up.
    """

    def __call__(self, ids: jax.Array) -> jax.Array:
        """Rows of int32 ids [...], [..., width]."""
        return rows(self.embedding, ids, "vocab").astype(self.dtype)

    def attend(self, query: jax.Array) -> jax.Array:
        """query float [..., width] times the table, transposed: the score of every word, [..., vocab]."""
        return product(query.astype(self.dtype), transposed(self.embedding))


class ReadsWords(nn.Module):
    """Base of an encoder whose `embeddings` have a `WordTable` named `word`."""

    def words(self, input_ids: jax.Array) -> jax.Array:
        """The word embeddings of int32 ids [...], [..., width] in the dtype of the computation."""
        return self.embeddings.word(input_ids)

    def attend(self, x: jax.Array) -> jax.Array:
        """x float [..., width] times the word embedding, transposed: the tied masked-LM decoder, [..., vocab]."""
        return self.embeddings.word.attend(x)


class OnReader(nn.Module):
    """Base of a model whose `encoder` reads words, such as a head with its encoder."""

    def words(self, input_ids: jax.Array) -> jax.Array:
        """The word embeddings, as of the encoder."""
        return self.encoder.words(input_ids)


def word_table(config, dtype: jnp.dtype) -> WordTable:
    """The table of a config with `vocab_size` and `word_width`."""
    init = weights_init(config, "vocab", "embed")
    return WordTable(config.vocab_size, config.word_width, dtype=dtype, embedding_init=init)
