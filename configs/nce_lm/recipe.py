"""A scorer of sentences as one job: the bi-directional model by noise contrast, beside what it must be compared with.

    codir compress --recipe=nce_lm --text='books/*.txt' --output=runs/scorer
    codir compress --recipe=nce_lm --output=runs/demo

The word vocabulary is trained on the text. Baselines, all in the table unless --compare names some: `bi_residual`,
the same on top of the trigram's ln q; `bi_mle`, both sides by pseudo-likelihood; `uni_mle`, left to right by
likelihood, a true probability. All have one size and as many steps, and are judged by one rule: how often a score
chooses a held-out sentence among ten, the others being copies with other words (`choice_accuracy`; the trigram's own
choice is `ngram_choice_accuracy`). Beside it stands how well it tells them from sentences of the trigram (`nce_loss`).

He, Zhang, Droppo, Yu (arXiv 1602.06064).
"""

from codir_jax.config import parse_arguments
from codir_jax.jobs.recipe import Recipe, StageSpec

ARMS = (
    ("bi_mle", "both sides, pseudo-likelihood"),
    ("uni_mle", "left to right, likelihood"),
    ("bi_residual", "both sides, NCE on the trigram"),
    ("bi_nce", "both sides, NCE"),
)
DEMO = (("data.sources", "demo:1000"), ("data.sentence_ends", "."), ("data.max_length", "24"))
DEMO += (("data.batch_size", "16"), ("train.total_steps", "1000"))


def get_recipe(argument: str) -> Recipe:
    """The recipe for "text" or "demo", always from scratch."""
    words = parse_arguments(argument, ("text", "demo", "scratch"))
    source = (("tokenizer_path", "{tokenizer}"),) if "text" in words else DEMO
    stages = tuple(StageSpec(name, title, f"configs/nce_lm/train.py:{name}", source) for name, title in ARMS)
    return Recipe(
        "Sentence scores by noise contrast",
        stages,
        main="bi_nce",
        needs_dev=False,
        compare=("bi_mle", "uni_mle", "bi_residual"),
        tokenizer="word",
        also=("ngram_choice_accuracy", "nce_loss"),
    )
