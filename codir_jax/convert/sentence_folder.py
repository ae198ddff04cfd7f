"""What the sentence-transformers library adds to a Hugging Face folder: how a vector is made of the tokens' states.

`modules.json` lists the modules that a text goes through. Those that are read and written here:

    Transformer     the encoder, in the folder itself; sentence_bert_config.json tells its longest text
    Pooling         1_Pooling/config.json; "mean", or "cls"
    Dense           after "cls": linear layer of the encoder's width and tanh, together the pooling "pooler"
    Normalize       the vectors that are served have norm 1; what is trained has not
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from codir_jax.convert.folder import check_floats, read_json
from codir_jax.models.pooling import POOLINGS
from codir_jax.processes import whole
from codir_jax.processes.user_error import MissingFileError, UserError

MODULES = "modules.json"
# The older name of each pooling, which every version of the library reads.
_POOLING_KEYS = {
    "cls": "pooling_mode_cls_token",
    "mean": "pooling_mode_mean_tokens",
    "max": "pooling_mode_max_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}


@dataclasses.dataclass(frozen=True)
class SentenceFacts:
    """How the states of a text's tokens become its vector.

    Attributes:
        pooling: of `models.pooling.POOLINGS`.
        normalize: whether the vector that is served has norm 1.
        max_length: longest text in tokens; None: as long as encoder and tokenizer take.
        do_lower_case: whether texts are put in lower case before the tokenizer.
        dense: of pooling "pooler": the folder of the linear layer; "" where it is among the encoder's weights.
    """

    pooling: str = "mean"
    normalize: bool = False
    max_length: int | None = None
    do_lower_case: bool = False
    dense: str = ""


def read(folder: Path) -> SentenceFacts | None:
    """The facts in a folder of sentence-transformers; None where it has no modules.json.

    Raises:
        UserError: a module, a pooling or a prompt that is not known here; it is named.
    """
    if not (folder / MODULES).is_file():
        return None
    modules = _json(folder / MODULES, list)
    try:
        steps = [(str(module["type"]).rpartition(".")[2], module["path"]) for module in modules]
    except (KeyError, TypeError) as error:
        raise UserError(f"{folder / MODULES}: expected a list of modules with type and path") from error
    for _, inner in steps:
        if not isinstance(inner, str) or inner == ".." or "\\" in inner or Path(inner).name not in (inner, ""):
            raise UserError(f"{folder / MODULES}: expected path to name a folder in this one, got {inner!r}")
    names = [name for name, _ in steps]
    if names[:2] not in (["Transformer", "Pooling"], ["Transformer"]) or names[2:] not in (
        [], ["Normalize"], ["Dense"], ["Dense", "Normalize"]
    ):  # fmt: skip
        raise UserError(
            f"{folder / MODULES} lists {' -> '.join(names) or 'no module'}; expected Transformer -> Pooling, then at "
            "most one Dense and one Normalize"
        )
    paths = dict(steps)
    if paths["Transformer"] not in ("", "."):
        raise UserError(
            f"{folder / MODULES}: the encoder lies in {paths['Transformer']}; expected it in the folder itself: open "
            "and save the model with a newer sentence-transformers"
        )
    pooling = _read_pooling(folder / paths["Pooling"] / "config.json") if "Pooling" in paths else "mean"
    if "Dense" in paths:
        _check_dense(folder / paths["Dense"] / "config.json", pooling)
        pooling = "pooler"
    _check_prompts(folder / "config_sentence_transformers.json")
    bert = folder / "sentence_bert_config.json"
    told = _json(bert, dict) if bert.is_file() else {}
    longest, lower_case = told.get("max_seq_length"), told.get("do_lower_case", False)
    if not isinstance(lower_case, bool):
        raise UserError(f"{bert}: expected do_lower_case true or false, got {lower_case!r}")
    if longest is not None and (not isinstance(longest, int) or isinstance(longest, bool) or longest < 1):
        raise UserError(f"{bert}: max_seq_length must be a whole number of tokens, got {longest!r}")
    return SentenceFacts(
        pooling=pooling,
        normalize="Normalize" in paths,
        max_length=longest,
        do_lower_case=lower_case,
        dense=paths.get("Dense", ""),
    )


def read_pooler(folder: Path, dense: str, width: int) -> dict[str, np.ndarray]:
    """The linear layer in the Dense module of that folder: kernel float32 [in, out], bias float32 [out]."""
    path = folder / dense / "model.safetensors"
    if not path.is_file():
        raise MissingFileError(f"no {path}; the Dense module that {folder / MODULES} names keeps its weights there")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is damaged or incomplete ({error}); fetch it again") from error
    shapes = {name: array.shape for name, array in tensors.items()}
    if shapes != {"linear.weight": (width, width), "linear.bias": (width,)}:
        raise UserError(f"{path} has {shapes}; expected linear.weight [{width}, {width}] and linear.bias [{width}]")
    for name, array in tensors.items():
        check_floats(path, name, array)
    return {
        "kernel": np.ascontiguousarray(tensors["linear.weight"].T, np.float32),
        "bias": tensors["linear.bias"].astype(np.float32),
    }


def write(folder: Path, facts: SentenceFacts, width: int, pooler: Mapping[str, Any] | None = None) -> None:
    """Writes the library's files beside `config.json` and the weights, in the form that its versions since 2.0 read.

    Args:
        folder: of the encoder.
        facts: `dense` is not read: the layer lies in 2_Dense.
        width: of the vectors.
        pooler: {"kernel" [in, out], "bias" [out]} of pooling "pooler".
    """
    prefix = "sentence_transformers.models."
    # Modules of an earlier export would otherwise lie there unlisted.
    for stale in ("1_Pooling", "2_Dense", "2_Normalize", "3_Normalize"):
        shutil.rmtree(folder / stale, ignore_errors=True)
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    first = "mean" if facts.pooling == "mean" else "cls"
    _write(
        folder / "1_Pooling" / "config.json",
        {"word_embedding_dimension": width, **{key: name == first for name, key in _POOLING_KEYS.items()}},
    )
    if facts.pooling == "pooler":
        modules.append(("2_Dense", "Dense"))
        activation = "torch.nn.modules.activation.Tanh"
        sizes = {"in_features": width, "out_features": width, "bias": True, "activation_function": activation}
        _write(folder / "2_Dense" / "config.json", sizes)
        weights = {
            "linear.weight": np.ascontiguousarray(np.asarray(pooler["kernel"], np.float32).T),
            "linear.bias": np.asarray(pooler["bias"], np.float32),
        }
        save_file(weights, folder / "2_Dense" / "model.safetensors", metadata={"format": "pt"})
        (folder / "2_Dense" / "model.safetensors").chmod(0o644)
    if facts.normalize:
        modules.append((f"{len(modules)}_Normalize", "Normalize"))
        (folder / modules[-1][0]).mkdir(exist_ok=True)
        _write(folder / modules[-1][0] / "config.json", {})
    _write(
        folder / MODULES,
        [{"idx": i, "name": str(i), "path": path, "type": prefix + name} for i, (path, name) in enumerate(modules)],
    )
    _write(
        folder / "sentence_bert_config.json",
        {"max_seq_length": facts.max_length, "do_lower_case": facts.do_lower_case},
    )
    _write(
        folder / "config_sentence_transformers.json",
        {"prompts": {}, "default_prompt_name": None, "similarity_fn_name": "cosine"},
    )


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """The rows of float32 [n, width] with norm 1, as sentence-transformers makes them; a row of zeros stays."""
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.maximum(norms, np.float32(1e-12))


def _read_pooling(path: Path) -> str:
    told = _json(path, dict)
    mode = told.get("pooling_mode")
    if mode is None:
        mode = [name for name, key in _POOLING_KEYS.items() if told.get(key)] or ["mean"]
    modes = mode if isinstance(mode, list) else [mode]
    served = [name for name in POOLINGS if name != "pooler"]
    if len(modes) != 1 or modes[0] not in served:
        raise UserError(f"{path}: pooling {' + '.join(map(str, modes))} is not supported; known: {', '.join(served)}")
    if told.get("include_prompt") is False:
        raise UserError(f"{path}: include_prompt false (a prompt's tokens left out of the mean) is not supported")
    return modes[0]


def _check_dense(path: Path, pooling: str) -> None:
    told = _json(path, dict)
    width, activation = told.get("in_features"), str(told.get("activation_function", "")).rpartition(".")[2]
    is_pooler = width == told.get("out_features") and told.get("bias", True) and activation == "Tanh"
    if not is_pooler or pooling != "cls" or told.get("use_residual"):
        raise UserError(
            f"{path}: a Dense module of {width} to {told.get('out_features')} features, activation {activation}, after "
            f"pooling {pooling} is not supported; expected a linear layer of one width with bias and Tanh after cls"
        )


def _check_prompts(path: Path) -> None:
    if path.is_file() and (name := _json(path, dict).get("default_prompt_name")):
        raise UserError(
            f"{path}: a prompt ({name!r}) is put before each text, which is not supported; set default_prompt_name to "
            "null there, and put the prompt before your texts"
        )


def _json(path: Path, kind: type) -> Any:
    if not path.is_file():
        raise MissingFileError(f"no {path}; the sentence-transformers folder is not whole: fetch it again")
    return read_json(path, kind)


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    whole.write_text(path, json.dumps(content, indent=2) + "\n")
