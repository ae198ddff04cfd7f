"""The fields of CoDIR, their presets, and what in them cannot be."""

import functools

from ml_collections import ConfigDict

from codir_jax.objectives.distill import TERM_FIELDS
from codir_jax.objectives.schedules import parse_schedule
from codir_jax.processes import fields
from codir_jax.processes.fields import defaults, field, parse_joined
from codir_jax.processes.user_error import UserError

SOURCES = ("in_batch", "bank", "queue", "teacher_cache")
TOKEN_KEYS = ("same_text", "near_positions", "batch", "same_word", "near_layers", "queue")
SPACES = ("projected", "centred", "raw")


FIELDS = {
    "name": field("codir", "the method, a file of codir_jax/objectives"),
    **TERM_FIELDS,
    # "info_nce" (paper) or "nce" (released code; needs source "bank").
    "contrastive_loss": field("info_nce", "form of the contrastive term", words=("info_nce", "nce")),
    "contrastive_weight": field(0.1, "w_crd, weight of the contrastive term", at_least=0, at_most=1e6),
    "contrastive_schedule": field("constant", "multiplier of contrastive_weight over the run", reads=parse_schedule),
    "contrastive_temperature": field(0.07, "tau", above=0, at_most=1e4),
    "projection_dim": field(128, "numbers of v_S and v_T", at_least=1, at_most=65_536),
    # "concat": one vector of all matched layers; "per_layer": one term a layer.
    "layer_aggregation": field("concat", "how matched layers are compared", words=("concat", "per_layer")),
    # So that no layer dominates; ours.
    "standardize_layers": field(True, "zero mean, unit variance of each layer"),
    # "frozen" at its random start.
    "teacher_projection": field("trained", "the projection of the teacher", words=("trained", "frozen")),
    # Where the two models have one width; ours. From two draws (released) the term first turns the student towards a
    # random map of its teacher.
    "equal_start": field(False, "both projections start from one draw"),
    # Of contrast.target "teacher" always the student.
    "anchors": field("both", "whose views pick out the other's", words=("student", "teacher", "both")),
    # "live" teacher view, or the example's stale "bank" row (released).
    "positive": field("live", "the view that is to be picked out", words=("live", "bank")),
    # What is told apart, by which labels, and where; ours, but for the defaults, which are the paper's.
    "contrast": {
        # "text": a pooled vector among `negatives`; "token": each token among `keys_from`.
        "unit": field("text", "what is told apart", words=("text", "token")),
        # "one_hot" (InfoNCE), or "teacher": KL to the teacher's similarity distribution.
        "target": field("one_hot", "the labels", words=("one_hot", "teacher")),
        "teacher_temperature": field(0.07, "tau_T of target teacher", above=0, at_most=1e4),
        "space": field("projected", "where states are compared, see spaces.py", words=SPACES),
        # Of unit "token": same_text, near_positions, batch, same_word, near_layers, queue; see token_contrast.py.
        "keys_from": field(
            "same_text+batch",
            "where the keys of a token come from, joined by +",
            reads=functools.partial(parse_joined, known=TOKEN_KEYS),
        ),
        # Of the global batch, a draw for all anchors.
        "num_sampled": field(512, "tokens that are keys of every anchor", at_least=1, at_most=1_000_000),
        "queue_size": field(2048, "tokens of earlier steps that are keys", at_least=1, at_most=10_000_000),
        "window": field(2, "tokens to either side, of near_positions", at_least=1, at_most=1_000_000),
        # A key nearer to the teacher's own state is its double; 1: none is left out.
        "similarity_ceiling": field(0.95, "largest cosine of a key with the teacher's own state", above=0, at_most=1),
    },
    "negatives": {
        # Joined by +: in_batch (the whole global batch), bank (stale rows of both sides), queue, teacher_cache (kept
        # teacher states under today's projection, for the student's anchor; needs a teacher cache).
        "source": field(
            "in_batch+bank",
            "where negatives come from, joined by +",
            reads=functools.partial(parse_joined, known=SOURCES),
        ),
        "num_negatives": field(512, "K, rows drawn from bank and teacher cache", at_least=0, at_most=10_000_000),
        # False negatives are masked; else K rows an example.
        "shared": field(True, "one draw for the whole batch"),
        "label_aware": field(True, "rows of other classes only"),
        # Of the teacher cache: nearest neighbours of each example among the negatives.
        "num_hard": field(0, "hard negatives of an example", at_least=0, at_most=1_000_000),
        "num_neighbours": field(16, "nearest rows of which the hard ones are drawn", at_least=0, at_most=1_000_000),
        # A neighbour of a larger cosine is a near-duplicate: at 0.98 a perfect student prefers its own view by odds of
        # exp((1 - 0.98) / 0.07) = 1.33 only, so the term would mostly push equal texts apart.
        "hard_similarity_ceiling": field(0.98, "largest cosine of a hard negative", above=0, at_most=1),
        "mask_same_label": field(True, "in batch and queue too, an example of the same class is no negative"),
        "mask_same_text": field(True, "an equal text is never a negative"),
        "mask_same_document": field(False, "at pre-training: a row of the same document, a hard one, is none either"),
        "mask_unvisited": field(True, "bank rows still at their random start are no negatives; ours"),
        "momentum": field(0.5, "m of the bank: row <- normalise(m * row + (1 - m) * v)", at_least=0, at_most=1),
        "queue_size": field(4096, "rows of the first-in-first-out queue", at_least=1, at_most=10_000_000),
        # A regression's "classes": quantile bins of the target; ours.
        "regression_bins": field(5, "classes that a regression's targets are cut into", at_least=1, at_most=1_000_000),
    },
    "normaliser": field("ema", "of NCE: of the first batch, or a running mean", words=("first_batch", "ema")),
    "normaliser_decay": field(0.99, "of the running mean (He et al. 2020)", at_least=0, below=1),
}


def default_config(preset: str = "paper") -> ConfigDict:
    """Fields of the method. `preset` is "paper", "released", "pretrain" or "encoder"; they differ only in values."""
    config = ConfigDict(defaults(FIELDS))
    if preset == "released":
        config.update(
            {
                "layer_matches": "skip_last",
                "pooling": "first",
                "contrastive_loss": "nce",
                "contrastive_weight": 0.01,  # the released total divides by the batch: its weight was 0.003-0.03
                "standardize_layers": False,
                "positive": "bank",
                "normaliser": "first_batch",
            }
        )
        config.negatives.update(
            {
                "source": "bank",
                "num_negatives": 100,
                "shared": False,
                "mask_same_text": False,
                "mask_unvisited": False,
            }
        )
    elif preset == "pretrain":
        # Neither the paper's text nor the released pre-training code (masked LM and soft targets only) gives weights to
        # the three terms there. These are the fine-tuning's: beta = 0.5 and T = 2 of the released GLUE runs, w_crd as
        # above.
        config.equal_start = True
        config.negatives.update({"source": "in_batch+queue", "label_aware": False, "mask_same_label": False})
    elif preset == "encoder":
        # Ours. Single sentences have no classes, so the negatives are those of pre-training. The weights are those of a
        # search, configs/distill_encoder/README.md.
        config.update({"equal_start": True, "task_weight": 1.0, "soft_target_weight": 0.0, "contrastive_weight": 1.0})
        config.negatives.update({"source": "in_batch+queue", "label_aware": False, "mask_same_label": False})
    elif preset != "paper":
        raise UserError(f"unknown preset {preset!r} of codir; known: paper, released, pretrain, encoder")
    return config


def check(config: ConfigDict) -> None:
    """Refuses a config that contradicts itself.

    Raises:
      UserError: what was expected, what came, what to do.
    """
    fields.check(FIELDS, config, "objective")
    _check_contrast(config)
    sources = parse_joined(config.negatives.source, SOURCES)
    if config.contrastive_loss == "nce" and sources != ["bank"]:
        raise UserError("objective.contrastive_loss='nce' estimates its normaliser over the bank: use source='bank'")
    if config.positive == "bank" and "bank" not in sources:
        raise UserError("objective.positive='bank' needs 'bank' among the sources of negatives")
    _check_negatives(config, sources)


def _check_contrast(config: ConfigDict) -> None:
    """The part of `check` about what is told apart, and where."""
    options, unit = config.contrast, config.contrast.unit
    if config.contrastive_loss == "nce" and (unit, options.target, options.space) != ("text", "one_hot", "projected"):
        raise UserError("objective.contrastive_loss='nce' is of projected texts against one positive: use info_nce")
    if config.positive == "bank" and (unit, options.target) != ("text", "one_hot"):
        raise UserError("objective.positive='bank' is of texts and target 'one_hot': use 'live'")
    if "near_layers" in options.keys_from and unit == "token" and config.layer_aggregation == "concat":
        raise UserError(
            "objective.contrast.keys_from has near_layers, neighbours of one layer: set layer_aggregation=per_layer"
        )


def _check_negatives(config: ConfigDict, sources: list[str]) -> None:
    """The part of `check` about numbers and sides of the negatives."""
    options = config.negatives
    if "bank" in sources and options.num_negatives < 1:
        raise UserError(f"objective.negatives.num_negatives must be >= 1, got {options.num_negatives}")
    if "queue" in sources and not options.mask_same_text:
        raise UserError(
            "objective.negatives.mask_same_text=False with a queue: a text that comes again would meet its own earlier "
            "view as a negative; set mask_same_text=True, or leave the queue out of negatives.source"
        )
    if config.contrastive_loss == "nce" and options.shared:
        raise UserError("objective.contrastive_loss='nce' counts K noise rows an example: set negatives.shared=False")
    if options.num_hard > options.num_neighbours:
        raise UserError(
            f"objective.negatives.num_hard must be in 0..num_neighbours ({options.num_neighbours}), "
            f"got {options.num_hard}"
        )
    if "teacher_cache" not in sources:
        if options.num_hard:
            raise UserError("objective.negatives.num_hard needs 'teacher_cache' among the sources of negatives")
        return
    if options.num_negatives + options.num_hard < 1:
        raise UserError(
            f"objective.negatives: num_negatives {options.num_negatives} and num_hard {options.num_hard} leave nothing "
            "to take from the teacher cache; raise one of them"
        )
    if config.anchors != "student" and sources == ["teacher_cache"]:
        raise UserError(
            f"objective.anchors={config.anchors!r}: the teacher cache has no student rows for the teacher's anchor; "
            "use negatives.source='in_batch+teacher_cache', or anchors='student'"
        )


def needs_cache(config: ConfigDict) -> bool:
    """Whether rows are taken out of the teacher cache."""
    return config.contrast.unit == "text" and "teacher_cache" in config.negatives.source.split("+")
