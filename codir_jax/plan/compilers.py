"""What XLA for each kind of machine keeps in memory and moves in a step, read off the programs that it makes."""

import dataclasses

from codir_jax.models.transformer import TransformerConfig


@dataclasses.dataclass(frozen=True)
class Arrays:
    """Bytes for each element of the arrays of a layer, as (times the itemsize of the computation, and beside it).

    Attributes:
      hidden: of [tokens, hidden]. inner: of [tokens, inner]. attention: of [heads, tokens, tokens].
    """

    hidden: tuple[float, float] = (0.0, 0.0)
    inner: tuple[float, float] = (0.0, 0.0)
    attention: tuple[float, float] = (0.0, 0.0)


@dataclasses.dataclass(frozen=True)
class Compiler:
    """XLA for a kind of machine.

    Attributes:
      kept: of each layer until its backward pass. Autodiff asks for more: XLA computes some of it again in passing.
      passing: beside them where the backward pass begins, of the embeddings, the last layer and the loss.
      again: beside a layer that is computed again, in its backward pass.
      late: of each layer from its backward pass to the end, where products that give gradients of weights come last;
        layers that are computed again make theirs at once (`models.products.gradients_together`).
      late_passing: beside them at the end.
      teacher: of a live teacher's layer while it runs: its input, its sum and its inner activation.
      split: share of the kept [tokens, hidden] that the model axis splits: queries, keys, values, mixed values.
      masks: whether a dropout keeps a byte an element, two of [tokens, hidden] and one of [heads, tokens, tokens].
      keeps_all: takes no notice of student.remat.
      score_bytes: of a cosine of an anchor and a negative: value, exponential, mask, of both anchors.
      feature_copies: of a byte of the gathered features and of the bank rows that are read, at the end of the loss.
      moved: read and written of each layer of the student in its forward and backward pass, one byte once; a pass more
        is a third more, and so is a teacher. score_moved: likewise of a cosine. feature_moved: of a
        byte of features or bank rows.
      gathered: dtype in which fsdp gathers the kernels of a layer.
      program: bytes of a program, without and for each layer of the student, of which a forward pass is a third.
      overlaps: share of the work that gradients can be summed behind.
    """

    kept: Arrays
    passing: Arrays
    again: Arrays = Arrays()
    late: Arrays | None = None
    late_passing: Arrays = Arrays()
    teacher: Arrays = Arrays((2, 0), (1, 0))
    split: float = 4 / 11
    masks: bool = True
    keeps_all: bool = False
    score_bytes: float = 17
    feature_copies: float = 0.0
    moved: Arrays = Arrays()
    score_moved: float = 0.0
    feature_moved: float = 0.0
    gathered: str = "float32"
    program: tuple[float, float] = (0.0, 0.0)
    overlaps: float = 0.0

    def kept_by(self, student: TransformerConfig) -> Arrays:
        """`kept` with the masks of the dropouts that a student has."""

        def masked(array, count):
            return array[0], array[1] + count * self.masks

        return dataclasses.replace(
            self.kept,
            hidden=masked(self.kept.hidden, 2 * (student.hidden_dropout > 0)),
            attention=masked(self.kept.attention, student.attention_dropout > 0),
        )


CPU = Compiler(Arrays((11, 0), (3, 0), (2, 0)), Arrays((8, 0), (0, 0), (0.6, 0)), keeps_all=True)
# Scores and LayerNorm are float32 whatever the computation is, and GELU's result is kept where it was rounded.
GPU = Compiler(
    kept=Arrays((8, 0), (0, 4), (1, 4)),
    passing=Arrays((6, 0), (2, 0), (2.4, 0)),
    again=Arrays((6, 0), (2, 0), (0, 0)),
    moved=Arrays((107, 0), (16, 0), (12, 0)),
    feature_copies=1.5,
    score_moved=74,
    feature_moved=5,
    overlaps=2 / 3,
)
# Of several GPUs: gradients are summed together, and their products wait for that.
GPUS = dataclasses.replace(GPU, late=Arrays((8, 0), (2, 0)), late_passing=Arrays((14, 0), (2, 0), (2.4, 0)))
TPU = Compiler(
    kept=Arrays((4, 2), (0, 4), (0.5, 4)),
    passing=Arrays((4, 0), (0, 4), (0, 0)),
    again=Arrays((1, 0)),
    masks=False,
    moved=Arrays((50, 0), (8, 0), (7, 0)),
    score_bytes=8,
    feature_copies=1.5,
    score_moved=74,
    feature_moved=5,
    gathered="bfloat16",  # a float32 product is one of bfloat16: what is sent is rounded before
    program=(15e6, 15e6),
)


def of(platform: str, num_devices: int) -> Compiler:
    """The compiler of a platform, "cpu", "gpu" or "tpu", for so many devices."""
    return {"cpu": CPU, "tpu": TPU, "gpu": GPU if num_devices == 1 else GPUS}[platform]
