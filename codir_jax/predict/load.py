"""A finished model as a function, of the kind that its folder says."""

from codir_jax.convert import huggingface
from codir_jax.convert.folder import model_folder
from codir_jax.predict import classifier, sentence_encoder
from codir_jax.predict.classifier import Predictor
from codir_jax.predict.sentence_encoder import SentenceEncoder


def load(path: str, *, batch_size: int = 32) -> Predictor | SentenceEncoder:
    """The classifier or sentence encoder in a Hugging Face folder, a workdir of `codir train`, or of a hub name.

    Args:
      path: with config.json, model.safetensors and tokenizer files.
      batch_size: texts that are run together; rounded up to a multiple of the devices.

    Raises:
      UserError: the folder is missing, damaged, or holds neither of the two.

    Example:
      >>> classify = codir_jax.load("runs/quickstart/export")
      >>> classify(["the cats that the dog sees sleep"])[0]["label"]
      >>> codir_jax.load("runs/pair_supcon/export").encode(["the cats sleep"]).shape
    """
    head = huggingface.stored_head(model_folder(path, "model"))
    kind = sentence_encoder if head == "embedding" else classifier
    return kind.load(path, batch_size=batch_size)
