"""A word language model for a phone as one job: a dense LSTM, every way to make it smaller, one table.

    codir compress --recipe=language_model --text='books/*.txt' --output=runs/keyboard --max_bytes=5MB
    codir compress --recipe=language_model --output=runs/demo

The dense model is made smaller at once (`--then`), and by training on under compression. Baselines, all in the table
unless --compare names some: `tuned`, the dense model trained on as long, without which nobody can say that fine-tuning
recovers; `pruned`, `factored`, `coded`; `small`, a dense model of fewer units from scratch; `taught`, the same by soft
targets of the dense one. On request `trained_train`, a tensor train from scratch, where the sizes of vocabulary and
layers have three factors.

Grachev, Ignatov, Savchenko, "Neural Networks Compression for Language Modeling" (arXiv 1708.05963).
"""

from codir_jax.config import parse_arguments
from codir_jax.jobs.recipe import Recipe, StageSpec

NAME = "language_model"

# Units of the dense model and of the small one, rank of both tables, sparsity, epochs of the dense one, of the others.
SIZES = {"text": (200, 100, 50, 90, 13.0, 3.0), "demo": (64, 32, 16, 80, 6.0, 2.0)}
TABLES = ".*embedding"


def get_recipe(argument: str) -> Recipe:
    """The recipe for "text" or "demo", always from scratch."""
    words = parse_arguments(argument, (*SIZES, "scratch"))
    data = "text" if "text" in words else "demo"
    units, fewer, rank, percent, epochs, more_epochs = SIZES[data]
    config = "configs/rnn_lm/train.py:small"
    source = (("tokenizer_path", "{tokenizer}"),) if data == "text" else (("data.sources", "demo:2000"),)

    def from_scratch(units, *more):
        return (*source, ("student.hidden_size", str(units)), ("train.total_epochs", str(epochs)), *more)

    def goes_on(rate, *method):
        """From the dense model, with a rate that is halved every epoch: the better of two on PTB (README.md)."""
        return (
            *source,
            ("student.init", "pretrained"),
            ("student.path", "{dense}"),
            ("student.num_layers", "0"),
            ("optimizer.learning_rate", rate),
            ("optimizer.epoch_decay_start", "0"),
            ("train.total_epochs", str(more_epochs)),
            *(("compression.method", way) for way in method),
        )

    pruning, factors = f"prune{percent}+int8", f"rank{rank}@{TABLES}"
    stages = (
        StageSpec("dense", "dense", config, from_scratch(units)),
        StageSpec("tuned", "dense, trained on", config, goes_on("0.05")),
        StageSpec("pruned", f"{pruning}, trained on", config, goes_on("0.6", pruning), then=pruning),
        StageSpec("factored", f"{factors}, trained on", config, goes_on("0.2", factors)),
        StageSpec("coded", "int4, trained on", config, goes_on("0.05", "int4"), then="int4"),
        StageSpec("small", f"dense, {fewer} units", config, from_scratch(fewer)),
        StageSpec(
            "taught",
            f"dense, {fewer} units, taught",
            f"{config},distill",
            from_scratch(fewer, ("teacher.path", "{dense}")),
        ),
        StageSpec(
            "trained_train",
            "tensor train of the tables",
            config,
            from_scratch(units, ("compression.method", f"tt16@{TABLES}")),
        ),
    )
    ways = ("int8", "int6", "int4", "int4_tensor", "int3", "prune50", "prune80", "prune90", pruning, factors)
    return Recipe(
        "Compression of a word language model",
        stages,
        main="dense",
        needs_dev=False,
        then=(*ways, f"{factors}+int8"),
        compare=("tuned", "pruned", "factored", "coded", "small", "taught"),
        tokenizer="word",
        also=("bits_per_character",),
        batch_size=20,
    )
