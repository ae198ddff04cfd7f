"""The fields of CoDIR, their presets, and what in them cannot be."""

from ml_collections import ConfigDict

from codir_jax.objectives.distill import check_terms, term_defaults
from codir_jax.objectives.schedules import check_schedule
from codir_jax.processes.user_error import UserError

SOURCES = ("in_batch", "bank", "queue", "teacher_cache")
TOKEN_KEYS = ("same_text", "near_positions", "batch", "same_word", "near_layers", "queue")
SPACES = ("projected", "centred", "raw")


def default_config(preset: str = "paper") -> ConfigDict:
    """Fields of the method. `preset` is "paper", "released", "pretrain" or "encoder"; they differ only in values."""
    config = ConfigDict(
        {
            "name": "codir",
            **term_defaults(),
            "contrastive_loss": "info_nce",  # "info_nce" (paper) or "nce" (released code; needs source "bank")
            "contrastive_weight": 0.1,  # w_crd, on the mean over examples and anchors
            "contrastive_schedule": "constant",
            "contrastive_temperature": 0.07,  # tau
            "projection_dim": 128,  # size of v_S and v_T
            "layer_aggregation": "concat",  # "concat": one vector of all matched layers; "per_layer": one term a layer
            "standardize_layers": True,  # zero mean, unit variance per layer, so that no layer dominates; ours
            "teacher_projection": "trained",  # "trained", or "frozen" at its random start
            # Both projections start from one draw, where the two models have one width; ours. From two draws (released)
            # the term first turns the student towards a random map of its teacher.
            "equal_start": False,
            "anchors": "both",  # "student", "teacher" or "both"; of contrast.target "teacher" always the student
            "positive": "live",  # "live" teacher view, or the example's stale "bank" row (released)
            # What is told apart, by which labels, and where; ours, but for the defaults, which are the paper's.
            "contrast": {
                "unit": "text",  # "text": a pooled vector among `negatives`; "token": each token among `keys_from`
                "target": "one_hot",  # "one_hot" (InfoNCE), or "teacher": KL to the teacher's similarity distribution
                "teacher_temperature": 0.07,  # tau_T of target "teacher", > 0
                "space": "projected",  # "projected", "centred" or "raw", see spaces.py
                # Of unit "token", joined by +: same_text, near_positions, batch, same_word, near_layers, queue; see
                # token_contrast.py.
                "keys_from": "same_text+batch",
                "num_sampled": 512,  # >= 1: tokens of the global batch that are keys of every anchor, a draw
                "queue_size": 2048,  # >= 1: tokens of earlier steps
                "window": 2,  # >= 1: tokens to either side, of near_positions
                "similarity_ceiling": 0.95,  # in (0, 1]: a key nearer to the teacher's own state is its double; 1: none
            },
            "negatives": {
                # Joined by +: in_batch (the whole global batch), bank (stale rows of both sides), queue, teacher_cache
                # (kept teacher states under today's projection, for the student's anchor; needs a teacher cache).
                "source": "in_batch+bank",
                "num_negatives": 512,  # K, rows drawn from the bank and from the teacher cache
                "shared": True,  # one draw for the whole batch, false negatives masked; else K rows an example
                "label_aware": True,  # rows of other classes only
                "num_hard": 0,  # of the teacher cache: nearest neighbours of each example among the negatives
                "num_neighbours": 16,  # nearest rows from which the hard ones are drawn
                # A neighbour of a larger cosine is a near-duplicate: at 0.98 a perfect student prefers its own view
                # by odds of exp((1 - 0.98) / 0.07) = 1.33 only, so the term would mostly push equal texts apart.
                "hard_similarity_ceiling": 0.98,
                "mask_same_label": True,  # also in batch and queue, an example of the same class is no negative
                "mask_same_text": True,  # an equal text is never a negative
                "mask_same_document": False,  # at pre-training: a row of the same document, a hard one, is none either
                "mask_unvisited": True,  # bank rows still at their random start are no negatives; ours
                "momentum": 0.5,  # m of the bank: row <- normalise(m * row + (1 - m) * v)
                "queue_size": 4096,  # rows of the first-in-first-out queue
                "regression_bins": 5,  # a regression's "classes": quantile bins of the target; ours
            },
            "normaliser": "ema",  # of NCE: "first_batch" (released) or "ema"
            "normaliser_decay": 0.99,  # of the EMA (He et al. 2020)
        }
    )
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
        # Ours. Single sentences have no classes, so the negatives are those of pre-training.
        config.update({"equal_start": True, "task_weight": 1.0, "soft_target_weight": 1.0})
        config.negatives.update({"source": "in_batch+queue", "label_aware": False, "mask_same_label": False})
    elif preset != "paper":
        raise UserError(f"unknown preset {preset!r} of codir; known: paper, released, pretrain, encoder")
    return config


def check(config: ConfigDict) -> None:
    """Refuses a config that contradicts itself.

    Raises:
      UserError: what was expected, what came, what to do.
    """
    check_terms(config)
    check_schedule("contrastive_schedule", config.contrastive_schedule)
    _check_contrast(config)
    for name, known in (
        ("contrastive_loss", ("info_nce", "nce")),
        ("layer_aggregation", ("concat", "per_layer")),
        ("teacher_projection", ("trained", "frozen")),
        ("anchors", ("student", "teacher", "both")),
        ("positive", ("live", "bank")),
        ("normaliser", ("first_batch", "ema")),
    ):
        if config[name] not in known:
            raise UserError(f"objective.{name}={config[name]!r}; known: {', '.join(known)}")
    sources = config.negatives.source.split("+")
    unknown = [name for name in sources if name not in SOURCES]
    if unknown:
        raise UserError(f"objective.negatives.source has {unknown}; known: {', '.join(SOURCES)}, joined by +")
    if config.contrastive_loss == "nce" and sources != ["bank"]:
        raise UserError("objective.contrastive_loss='nce' estimates its normaliser over the bank: use source='bank'")
    if config.positive == "bank" and "bank" not in sources:
        raise UserError("objective.positive='bank' needs 'bank' among the sources of negatives")
    if config.contrastive_temperature <= 0:
        raise UserError(f"objective.contrastive_temperature must be > 0, got {config.contrastive_temperature}")
    _check_negatives(config, sources)


def _check_contrast(config: ConfigDict) -> None:
    """The part of `check` about what is told apart, and where."""
    options, unit = config.contrast, config.contrast.unit
    for name, known in (("unit", ("text", "token")), ("target", ("one_hot", "teacher")), ("space", SPACES)):
        if options[name] not in known:
            raise UserError(f"objective.contrast.{name}={options[name]!r}; known: {', '.join(known)}")
    unknown = [name for name in options.keys_from.split("+") if name not in TOKEN_KEYS]
    if unknown:
        raise UserError(f"objective.contrast.keys_from has {unknown}; known: {', '.join(TOKEN_KEYS)}, joined by +")
    for name in ("num_sampled", "queue_size", "window"):
        if options[name] < 1:
            raise UserError(f"objective.contrast.{name} must be >= 1, got {options[name]}")
    if not options.teacher_temperature > 0:
        raise UserError(f"objective.contrast.teacher_temperature must be > 0, got {options.teacher_temperature}")
    if not 0 < options.similarity_ceiling <= 1:
        raise UserError(f"objective.contrast.similarity_ceiling must be in (0, 1], got {options.similarity_ceiling}")
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
    if "queue" in sources and options.queue_size < 1:
        raise UserError(f"objective.negatives.queue_size must be >= 1, got {options.queue_size}")
    if config.contrastive_loss == "nce" and options.shared:
        raise UserError("objective.contrastive_loss='nce' counts K noise rows an example: set negatives.shared=False")
    if options.num_hard < 0 or options.num_hard > options.num_neighbours:
        raise UserError(
            f"objective.negatives.num_hard must be in 0..num_neighbours ({options.num_neighbours}), "
            f"got {options.num_hard}"
        )
    if not 0 < options.hard_similarity_ceiling <= 1:
        raise UserError(
            f"objective.negatives.hard_similarity_ceiling must be in (0, 1], got {options.hard_similarity_ceiling}"
        )
    if "teacher_cache" not in sources:
        if options.num_hard:
            raise UserError("objective.negatives.num_hard needs 'teacher_cache' among the sources of negatives")
        return
    if options.num_negatives < 0 or options.num_negatives + options.num_hard < 1:
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
