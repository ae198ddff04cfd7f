"""A sentence encoder from pairs of sentences as one job: PairSupCon, its parts, and the losses it is compared with.

    codir compress --recipe=pair_supcon --model=bert-base-uncased --train=nli.tsv --dev=sts.tsv --output=runs/encoder
    codir compress --recipe=pair_supcon --output=runs/demo

Without files a small encoder is trained from scratch on embedded pairs: a demonstration. Baselines, each an arm of
train.py: `--compare=classify,instance,orig,ranking,twins`; on own files `ranking`, which did better than PairSupCon
(README.md), unless others are named. With --model its own scores are the first row.
"""

from codir_jax.config import parse_arguments
from codir_jax.jobs.recipe import Recipe, StageSpec

ARMS = (
    ("classify", "classifier of pairs only (L_C)"),
    ("orig", "instances only, all negatives alike"),
    ("instance", "instances only, hard negatives"),
    ("ranking", "ranking loss"),
    ("twins", "dropout twins, no labels"),
    ("joint", "PairSupCon"),
)


def get_recipe(argument: str) -> Recipe:
    """The recipe for "own" or "demo", and "scratch" where no model is given."""
    words = parse_arguments(argument, ("own", "demo", "scratch"))
    data = "own" if "own" in words else "demo"
    start, untrained = (), ()
    if data == "own" or "scratch" not in words:
        start = (("student.init", "pretrained"), ("student.path", "{given}"), ("student.num_layers", "0"))
    if "scratch" not in words:
        untrained = (StageSpec("start", "as given", ""),)
    compare = ("ranking",) if data == "own" else ()
    arms = [StageSpec(name, title, f"configs/pair_supcon/train.py:{data},{name}", start) for name, title in ARMS]
    return Recipe("Sentence encoder", (*untrained, *arms), main="joint", needs_dev=False, compare=compare)
