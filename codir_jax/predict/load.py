"""A finished model as a function, of the kind that its folder says."""

from codir_jax.convert import pretrained
from codir_jax.convert.folder import model_folder
from codir_jax.convert.formats import contract
from codir_jax.convert.formats.contract import HUGGINGFACE
from codir_jax.predict import classifier, language_model, masked_lm_scorer, sentence_encoder, sentence_scorer
from codir_jax.predict.classifier import Predictor
from codir_jax.predict.language_model import LanguageModel
from codir_jax.predict.sentence_encoder import SentenceEncoder
from codir_jax.processes.user_error import UserError

# Head -> who makes a function of it; of any other the classifier says what is amiss.
KINDS = {"embedding": sentence_encoder, "language_model": language_model, "sentence_score": sentence_scorer}
# Head -> who scores sentences with it.
SCORERS = {"language_model": language_model, "sentence_score": sentence_scorer, "masked_lm": masked_lm_scorer}


def load(path: str, *, batch_size: int = 32, format: str = HUGGINGFACE) -> Predictor | SentenceEncoder | LanguageModel:
    """The classifier, sentence encoder or language model in a folder, a workdir of `codir train`, or of a hub name.

    Args:
      path: with config.json, model.safetensors and tokenizer files.
      batch_size: texts that are run together; rounded up to a multiple of the devices.
      format: who computes: JAX, or the runtime of a format that the folder has, as `codir export --format` wrote it:
        "onnx", "onnx-int8", "stablehlo"; the last one not of language models.

    Raises:
      UserError: the folder is missing, damaged, or holds none of the three, or not that format.

    Example:
      >>> classify = codir_jax.load("runs/quickstart/export")
      >>> classify(["the cats that the dog sees sleep"])[0]["label"]
      >>> codir_jax.load("served", format="onnx-int8")(["the cats that the dog sees sleep"])
      >>> codir_jax.load("runs/pair_supcon/export").encode(["the cats sleep"]).shape
      >>> codir_jax.load("runs/small").next_words("the cats", 3)
    """
    head = pretrained.stored_head(model_folder(path, "model"))
    return KINDS.get(head, classifier).load(path, batch_size=batch_size, **_runtime(format, head))


def load_scorer(path: str, *, batch_size: int = 32, format: str = HUGGINGFACE):
    """The model in a folder as a scorer of sentences: `score(texts)` and `is_probability`; arguments as of `load`.

    Raises:
      UserError: its head scores no sentences, or there is no such format of it.
    """
    head = pretrained.stored_head(model_folder(path, "model"))
    if head not in SCORERS:
        raise UserError(f"{path} has a {head} head, and sentences are scored by {', '.join(SCORERS)}")
    return SCORERS[head].load(path, batch_size=batch_size, **_runtime(format, head))


def _runtime(format: str, head: str) -> dict[str, str]:
    """The argument of a loader, none for JAX: what no format has room for cannot be asked for one."""
    if format == HUGGINGFACE:
        return {}
    contract.require([format], head)
    return {"format": format}
