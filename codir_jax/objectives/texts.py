"""The texts of a batch as a model reads them, every one a row."""

import jax

# One entry a token: [rows, tokens, ...], or [rows, T, tokens, ...] where a row has T texts that are encoded apart.
OF_TOKENS = ("input_ids", "attention_mask", "token_type_ids", "words")


def each_text(batch) -> dict[str, jax.Array]:
    """What a model reads of a batch, every text a row: [rows T, tokens, ...], the texts of a row beside each other."""
    num_leading = batch["input_ids"].ndim - 1
    return {name: batch[name].reshape(-1, *batch[name].shape[num_leading:]) for name in OF_TOKENS if name in batch}


def init_model(model, rng: jax.Array, batch):
    """Randomly initialised parameters of the model (with their logical axis names)."""
    texts = each_text(batch)
    return model.init(rng, texts["input_ids"], texts["attention_mask"], texts["token_type_ids"])["params"]
