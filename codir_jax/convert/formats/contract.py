"""What a format is: one file of this folder, in which a served model is written for another runtime.

Its module defines

    FILE                             of the model, below its Hugging Face folder
    HEADS                            of `models.heads.HEADS`, whose models it has room for
    NEEDS, EXTRA                     modules that must be installed, and the extra of codir-jax that brings them
    usage(head)                      lines of Python for the model card
    write(folder, head)              writes FILE of the folder, whose Hugging Face files are there already
    load(folder) -> Answers          FILE in its own runtime

and may define

    AFTER                            another format that it is made of
    LARGEST_ERROR                    instead of a bound for each number, the share of the answers' size that their error
                                     may have, where weights are rounded
    COMPILES                         True where its runtime compiles each shape of inputs that it meets

The `Answers` of a language model are those of texts that begin, and it has, beside being called,

    step(input_ids, state) -> (logits, state after the last token), state None: texts begin

The name of a format is that of its file, "-" for "_": "onnx-int8". A model is compared with the folder in JAX on texts
of several lengths, one alone and padded together.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np

from codir_jax.convert import export
from codir_jax.convert.pretrained import load_pretrained
from codir_jax.models.heads import head_spec
from codir_jax.processes import by_name
from codir_jax.processes.user_error import UserError

# The format that is always written, and the others lie in it.
HUGGINGFACE = "huggingface"
_PACKAGE = "codir_jax.convert.formats"

# (input_ids, attention_mask, token_type_ids), int32 [batch, seq] -> float32 [batch, ...]
Answers = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Written:
    """A model in a format, judged.

    Attributes:
      name: of the format. file: of the model, below the folder. num_bytes: of that file.
      difference: largest one of an answer; of rounded weights the size of all errors as a share of that of all answers.
      bound: of the difference. answer: "logits" or "vectors". num_examples: rows compared. is_rounded: see difference.
    """

    name: str
    file: str
    num_bytes: int
    difference: float
    bound: float
    answer: str
    num_examples: int
    is_rounded: bool

    @property
    def passed(self) -> bool:
        """Whether the difference is within the bound; NaN is not."""
        return self.difference <= self.bound

    def __str__(self) -> str:
        what, difference, bound = f"largest difference of {self.answer}", f"{self.difference:.2e}", f"{self.bound:.0e}"
        if self.is_rounded:
            what, difference, bound = f"error of rounded {self.answer}", f"{self.difference:.1%}", f"{self.bound:.0%}"
        told = f"{what} over {self.num_examples} examples {difference} in its own runtime (bound {bound})"
        return f"{self.name} parity passed: {told}" if self.passed else f"{self.name} parity FAILED, left out: {told}"


def known() -> tuple[str, ...]:
    """The names of all formats."""
    return (HUGGINGFACE, *(name.replace("_", "-") for name in _modules()))


def files() -> tuple[str, ...]:
    """What all formats write, below a Hugging Face folder."""
    return tuple(module.FILE for module in _modules().values())


def require(names: Sequence[str], head: str = "") -> None:
    """Refuses an unknown format, one that has no room for the head, and one whose libraries are not installed.

    Raises:
      UserError: it says what to install.
    """
    if unknown := [name for name in names if name not in known()]:
        raise UserError(f"--format={','.join(unknown)}; known: {', '.join(known())}")
    for name in _others(names):
        module = _module(name)
        if missing := [needed for needed in module.NEEDS if importlib.util.find_spec(needed) is None]:
            raise UserError(
                f"--format={name} needs {', '.join(missing)}, which is not installed: pip install "
                f"'codir-jax[{module.EXTRA}]'"
            )
        if head and head not in _module(name).HEADS:
            raise UserError(
                f"--format={name} is of models with a head {' or '.join(_module(name).HEADS)}, and this model has a "
                f"{head} head; leave it out"
            )


def write(folder: Path, names: Sequence[str], head: str, batch: Mapping[str, np.ndarray]) -> list[Written]:
    """Writes the model of a Hugging Face folder in these formats alone, and judges each by its own runtime.

    One that computes something else is left out of the folder.

    Args:
      folder: as `convert.export.export` wrote it. names: of formats; "huggingface" is there already.
      head: of `models.heads.HEADS`.
      batch: `input_ids`, `attention_mask`, `token_type_ids`, int32 [batch, seq]; rows of several lengths.
    """
    require(names, head)
    if not _others(names):
        return []
    source = load_pretrained(folder, head=head)
    expected = [(inputs, export.answers_of(source, head, inputs)) for inputs in _shapes(batch)]
    return [_written(folder, name, head, expected) for name in _others(names)]


def present(folder: Path, names: Sequence[str]) -> list[str]:
    """Those of the formats that a folder has."""
    return [name for name in dict.fromkeys(names) if name == HUGGINGFACE or (folder / _module(name).FILE).exists()]


def load(folder: Path, name: str) -> Answers:
    """The model that `write` left in a folder."""
    return _module(name).load(folder)


def compiles(name: str) -> bool:
    """Whether its runtime compiles each shape of inputs that it meets."""
    return getattr(_module(name), "COMPILES", False)


def in_card(names: Sequence[str], head: str) -> str:
    """What the model card of a model with that head says of these formats, "" without any."""
    parts = [
        f"`{_module(name).FILE}`:\n\n```python\n" + "\n".join(_module(name).usage(head)) + "\n```\n"
        for name in _others(names)
    ]
    return "\n## In other runtimes\n\n" + "\n".join(parts) if parts else ""


def num_bytes(folder: Path, name: str) -> int:
    """Bytes of the file that `write` left in a folder."""
    return (folder / _module(name).FILE).stat().st_size


def _written(folder: Path, name: str, head: str, expected) -> Written:
    module = _module(name)
    (folder / module.FILE).parent.mkdir(exist_ok=True)
    before = getattr(module, "AFTER", "")
    is_given = not before or (folder / _module(before).FILE).exists()
    if not is_given:
        (folder / _module(before).FILE).parent.mkdir(exist_ok=True)
        _module(before).write(folder, head)
    module.write(folder, head)
    if not is_given:
        (folder / _module(before).FILE).unlink()
    run, answer = module.load(folder), head_spec(head).answer
    pairs = [(np.asarray(run(*inputs), np.float32), theirs) for inputs, theirs in expected]
    share = getattr(module, "LARGEST_ERROR", None)
    written = Written(
        name=name,
        file=module.FILE,
        num_bytes=num_bytes(folder, name),
        difference=_error(pairs) if share else max(export.distance(ours, theirs) for ours, theirs in pairs),
        bound=share or export.TOLERANCE[answer],
        answer=answer,
        num_examples=len(expected[0][1]),
        is_rounded=share is not None,
    )
    if not written.passed:
        (folder / module.FILE).unlink()
        with contextlib.suppress(OSError):  # another format lies beside it
            (folder / module.FILE).parent.rmdir()
    return written


def _shapes(batch: Mapping[str, np.ndarray]) -> list[tuple[np.ndarray, ...]]:
    """The rows together, padded, and the longest and the shortest of them alone, without padding."""
    inputs = tuple(np.asarray(batch[name], np.int32) for name in export.INPUTS)
    lengths = inputs[1].sum(1)
    alone = [tuple(array[i : i + 1, : lengths[i]] for array in inputs) for i in (lengths.argmax(), lengths.argmin())]
    return [inputs, *alone]


def _error(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> float:
    if any(ours.shape != theirs.shape for ours, theirs in pairs):
        return float("inf")
    squares = [(np.square(ours - theirs).sum(), np.square(theirs).sum()) for ours, theirs in pairs]
    error, size = np.sum(squares, axis=0)
    return float(np.sqrt(error / size))


def _others(names: Sequence[str]) -> list[str]:
    return [name for name in dict.fromkeys(names) if name != HUGGINGFACE]


def _module(name: str) -> ModuleType:
    return _modules()[name.replace("-", "_")]


def _modules() -> dict[str, ModuleType]:
    return by_name.modules(_PACKAGE, ("FILE", "write", "load"))
