"""A finished model as a function, of the kind that its folder says."""

from codir_jax.convert import huggingface
from codir_jax.convert.folder import model_folder
from codir_jax.predict import classifier, language_model, sentence_encoder
from codir_jax.predict.classifier import Predictor
from codir_jax.predict.language_model import LanguageModel
from codir_jax.predict.sentence_encoder import SentenceEncoder

# Head -> who makes a function of it; of any other the classifier says what is amiss.
KINDS = {"embedding": sentence_encoder, "language_model": language_model}


def load(path: str, *, batch_size: int = 32) -> Predictor | SentenceEncoder | LanguageModel:
    """The classifier, sentence encoder or language model in a folder, a workdir of `codir train`, or of a hub name.

    Args:
      path: with config.json, model.safetensors and tokenizer files.
      batch_size: texts that are run together; rounded up to a multiple of the devices.

    Raises:
      UserError: the folder is missing, damaged, or holds none of the three.

    Example:
      >>> classify = codir_jax.load("runs/quickstart/export")
      >>> classify(["the cats that the dog sees sleep"])[0]["label"]
      >>> codir_jax.load("runs/pair_supcon/export").encode(["the cats sleep"]).shape
      >>> codir_jax.load("runs/small").next_words("the cats", 3)
    """
    head = huggingface.stored_head(model_folder(path, "model"))
    return KINDS.get(head, classifier).load(path, batch_size=batch_size)
