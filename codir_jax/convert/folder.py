"""The files of a model folder: where it is, also in a workdir; its `config.json`, its safetensors, packed or not."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from codir_jax.compression import packed
from codir_jax.compression.packed import Array, Weight
from codir_jax.processes import json_text
from codir_jax.processes.user_error import MissingFileError, UserError

WEIGHTS = "model.safetensors"
# The n-gram model beside the weights of a sentence scorer, which is not whole without it.
NOISE_FILE = "noise.npz"
INDEX = "model.safetensors.index.json"


def find_folder(path_or_name: str | os.PathLike) -> Path:
    """The local folder, downloaded first where a hub name is given."""
    path = Path(path_or_name).expanduser()
    if path.is_dir():
        return path
    name = str(path_or_name)
    if path.exists():
        raise UserError(f"{name} is a file; expected a folder with config.json and {WEIGHTS}, or a hub name")
    looks_local = name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name or not name.strip()
    if looks_local:
        raise MissingFileError(f"no folder {name!r}; expected a Hugging Face folder, or a hub name like roberta-base")
    from huggingface_hub import snapshot_download  # late: a local folder does not need it
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        # "*/*" is left out: sub-folders hold other frameworks' copies.
        local = snapshot_download(name, allow_patterns=["*.json", "*.txt", "*.safetensors"], ignore_patterns=["*/*"])
        if (Path(local) / "modules.json").is_file():  # of sentence-transformers, whose folders are numbered
            local = snapshot_download(name, allow_patterns=["[0-9]_*/config.json", "[0-9]_*/*.safetensors"])
    except HFValidationError as error:
        raise UserError(f"{name!r} is neither a folder nor a valid hub name: {error}") from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise MissingFileError(
            f"{name!r} is no local folder, and was not found on the Hugging Face hub nor in its local cache "
            f"({type(error).__name__}). Check the name and the network, or give the path of a downloaded folder"
        ) from error
    return Path(local)


def model_folder(path: str, purpose: str) -> str:
    """`path`, or its `best/` or `export/` if it is a workdir; a hub name is returned as it is.

    Raises:
      MissingFileError: a workdir without a finished model; it says which stage makes it.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir() or (folder / "model.safetensors").exists():
        return path
    for inner in ("best", "export"):
        if (folder / inner / "config.json").exists():
            return str(folder / inner)
    if several := sorted(place.parent.name for place in (folder / "export").glob("*/config.json")):
        raise MissingFileError(
            f"{purpose} {path} has several models; name one: {folder / 'export'}/{{{','.join(several)}}}"
        )
    if (folder / "job.json").exists():
        raise MissingFileError(f"{purpose} {path} is a job that is not finished; the command that began it goes on")
    if (folder / "metrics.jsonl").exists() or (folder / "checkpoints").exists():
        raise MissingFileError(
            f"{purpose} {path} is a workdir without best/: its training has not reached an evaluation"
        )
    return path


def copy_noise(source: Path, target: Path) -> None:
    """The noise model of a sentence scorer goes along with its weights, where there is one."""
    if (noise := source / NOISE_FILE).is_file():
        shutil.copyfile(noise, target / NOISE_FILE)


def without_path(name: str) -> str:
    """How a model card tells a model's name: a hub name whole, of a path on the machine that trained its last part.

    A hub name, "FacebookAI/roberta-base", has at most one slash and is nothing that lies here.
    """
    is_path = name.startswith(("/", ".", "~")) or name.count("/") > 1 or "\\" in name or Path(name).exists()
    return Path(name).name if is_path else name


def read_config(folder: Path) -> dict[str, Any]:
    """`config.json` of a folder as a dict."""
    path = folder / "config.json"
    if not path.is_file():
        raise MissingFileError(f"no config.json in {folder}; expected a Hugging Face model folder")
    return read_json(path, dict)


def read_json(path: Path, kind: type) -> Any:
    """The content of a JSON file, a `kind`: dict or list.

    Raises:
      UserError: it is no JSON, or another kind.
    """
    try:
        # Python, and so many a program, writes NaN: who reads a number looks at it.
        content = json_text.parse(path.read_text(encoding="utf-8"), allow_nan=True)
    except (json_text.JsonError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid JSON: {error}; fetch it again") from error
    if not isinstance(content, kind):
        raise UserError(f"{path}: expected a JSON {'list' if kind is list else 'object'}, got {type(content).__name__}")
    return content


_NUMBER = re.compile(r"\d+")
# What a weight may be kept as.
_FLOATS = ("float64", "float32", "float16", "bfloat16")


class Tensors:
    """Lazy view of a folder's safetensors, one file or several, under today's names with the family's prefix.

    Attributes:
      folder: of the model. prefix, roots, moved: of `models.contract.Family`.

    Raises:
      UserError: a file is damaged, or two tensors have one name.
    """

    def __init__(self, folder: Path, prefix: str, roots: tuple[str, ...], moved: Mapping[str, str]) -> None:
        self._open = []
        self._where: dict[str, tuple[Any, str, Path]] = {}
        self._packed: dict[str, Weight] = {}
        for path in _weight_files(folder):
            try:
                if path.name == packed.FILE:
                    self._packed, self._packed_path = packed.read(path), path
                    continue
                handle = safe_open(path, framework="numpy")
                handle.__enter__()
            except (SafetensorError, OSError, ValueError) as error:
                self.__exit__()
                raise UserError(f"{path} is damaged or incomplete ({error}); fetch or write it again") from error
            self._open.append((handle, path))
            for stored in handle.keys():  # noqa: SIM118 - a safetensors handle is no dict
                if stored in self._where:
                    self.__exit__()
                    raise UserError(f"{stored} is in {self._where[stored][2]} and in {path}; fetch both again")
                self._where[stored] = (handle, stored, path)
        try:
            self._where = _renamed(folder, self._where, prefix, roots, moved)
            self._packed = _renamed(folder, self._packed, prefix, roots, moved)
        except UserError:
            self.__exit__()
            raise

    def __enter__(self) -> Tensors:
        return self

    def __exit__(self, *_: object) -> None:
        for handle, _path in self._open:
            handle.__exit__(None, None, None)

    def __contains__(self, name: str) -> bool:
        return name in self._where or name in self._packed

    def __iter__(self):
        return iter((*self._where, *self._packed))

    def shape(self, name: str) -> tuple[int, ...]:
        if name in self._packed:
            return self._packed[name].shape
        handle, stored, _ = self._where[name]
        return tuple(handle.get_slice(stored).get_shape())

    def further(self, names: Iterable[str]) -> list[str]:
        """Tensors that differ from these in numbers only: of layers beyond those that `names` tell of."""
        known = set(names)
        kinds = {_NUMBER.sub("#", name) for name in known}
        return sorted(name for name in self if name not in known and _NUMBER.sub("#", name) in kinds)

    def read(self, name: str) -> np.ndarray:
        """float32 array of finite numbers; float16 and bfloat16 checkpoints are widened, exactly.

        Raises:
          UserError: it holds whole numbers or booleans, NaN or infinity.
        """
        if name in self._packed:
            return self.weight(name).numbers()
        handle, stored, path = self._where[name]
        return check_floats(path, stored, handle.get_tensor(stored))

    def weight(self, name: str) -> Weight:
        """As it lies in the file; of an ordinary file float32. Raises as `read`."""
        if name not in self._packed:
            return Weight("dense", (Array(self.read(name)),))
        for array in self._packed[name].arrays:
            check_floats(self._packed_path, name, array.values if array.bits == packed.FLOAT else array.numbers())
        return self._packed[name]


def check_floats(path: Path, name: str, array: np.ndarray) -> np.ndarray:
    """The weight `name` of a file as float32.

    Raises:
      UserError: it holds whole numbers or booleans, NaN or infinity.
    """
    if array.dtype.name not in _FLOATS:
        raise UserError(f"{path}: {name} is of dtype {array.dtype}; expected {', '.join(_FLOATS)}")
    with np.errstate(over="ignore"):  # a float64 may be infinite in float32, which is told next
        array = array.astype(np.float32)
    if not (is_finite := np.isfinite(array)).all():
        raise UserError(
            f"{path}: {int((~is_finite).sum())} of {array.size} numbers of {name} are NaN or infinite in float32; "
            "expected finite weights: fetch the model again, or train it again with a lower learning rate"
        )
    return array


def weight_bytes(folder: str | os.PathLike) -> int:
    """Bytes of the weights' files of a folder, as they lie there."""
    return sum(path.stat().st_size for path in _weight_files(Path(folder)))


def _weight_files(folder: Path) -> list[Path]:
    index = folder / INDEX
    for name in (WEIGHTS, packed.FILE):
        if (folder / name).is_file():
            return [folder / name]
    if index.is_file():
        told = read_json(index, dict).get("weight_map")
        if not isinstance(told, dict) or not told or not all(map(_is_shard_name, told.values())):
            raise UserError(
                f"{index}: expected weight_map to name files of this folder, without a path, that end in .safetensors, "
                f"got {str(told)[:200]}; fetch it again"
            )
        names = sorted(set(told.values()))
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise MissingFileError(f"{index} names {missing}, not in {folder}; fetch the missing shards")
        return [folder / name for name in names]
    pickles = sorted(path.name for path in folder.glob("*.bin"))
    found = f"only {', '.join(pickles)}, a pickle, which is not read" if pickles else "no weights"
    raise MissingFileError(
        f"no {WEIGHTS} in {folder}: {found}. Where torch and transformers are installed, convert with\n"
        f'  python -c "from transformers import AutoModelForSequenceClassification as M; '
        f"M.from_pretrained('{folder}').save_pretrained('{folder}-safetensors')\"\n"
        f"(a plain encoder or masked LM: AutoModel, AutoModelForMaskedLM) and give the new folder"
    )


def _is_shard_name(name: Any) -> bool:
    return isinstance(name, str) and Path(name).name == name and "\\" not in name and name.endswith(".safetensors")


def _renamed(
    folder: Path, stored: Mapping[str, Any], prefix: str, roots: tuple[str, ...], moved: Mapping[str, str]
) -> dict[str, Any]:
    """Today's names -> what is stored; of a base checkpoint with the prefix, which all of its names lack."""
    with_prefix = next((name for name in stored if name.startswith(prefix)), None)
    without = next((name for name in stored if name.startswith(roots)), None)  # a head may have a pooler
    if prefix and with_prefix and without:
        raise UserError(
            f"{folder}: {with_prefix} and {without} are names of two kinds; expected {prefix!r} before all names of "
            "the encoder or before none: save the model again"
        )
    found: dict[str, Any] = {}
    for name, where in stored.items():
        modern = _modern_name(name, "" if with_prefix else prefix, roots, moved)
        if modern in found:
            raise UserError(f"{folder}: two tensors are {modern}, {name} is one of them; save the model again")
        found[modern] = where
    return found


def _modern_name(name: str, prefix: str, roots: tuple[str, ...], moved: Mapping[str, str]) -> str:
    """All names of a base checkpoint lack the prefix; those of the first BERTs say gamma and beta."""
    if name.endswith("LayerNorm.gamma"):
        name = name.removesuffix("gamma") + "weight"
    elif name.endswith("LayerNorm.beta"):
        name = name.removesuffix("beta") + "bias"
    if name.startswith((*roots, "pooler.")):
        name = prefix + name
    for old, new in moved.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name
