"""What a step of CoDIR costs beside its models, for `codir plan`."""

from ml_collections import ConfigDict

from codir_jax.objectives import spaces, token_contrast
from codir_jax.objectives.contract import Setting
from codir_jax.objectives.cost import Cost, Features, StepSize
from codir_jax.objectives.views import matches


def cost(config: ConfigDict, setting: Setting, size: StepSize) -> Cost:
    """Projections and cosines of both sides, forward and backward, and the features that are sent."""
    if config.contrast.unit == "token":
        flops, scores, sent = token_contrast.cost(config, setting, size)
        return Cost({"contrastive": flops}, scores, sent)
    num_matches = len(matches(config, setting))
    options, groups = config.negatives, spaces.num_groups(config, num_matches)
    sources, batch_size = options.source.split("+"), size.batch_size
    dim = spaces.feature_size(config, num_matches, setting.teacher.config.hidden_size)
    num_keys = {
        "in_batch": batch_size,
        "bank": min(options.num_negatives, size.num_train),
        "queue": options.queue_size,
        "teacher_cache": options.num_negatives + options.num_hard,
    }
    keys = sum(num_keys[name] for name in sources)
    # No gradient reaches the teacher.
    widths = 3 * setting.student.config.hidden_size + 2 * setting.teacher.config.hidden_size
    projections = 2 * batch_size * num_matches * dim * widths if config.contrast.space == "projected" else 0
    cosines = 2 * batch_size * keys * groups * dim
    # On one device: its anchors with all keys, or all anchors with its part of the queue.
    queue = options.queue_size if "queue" in sources else 0
    scores = groups * (batch_size / size.shards * (keys - queue) + batch_size * queue / size.devices)
    drawn = options.num_negatives * (1 if options.shared else batch_size)
    table_bytes = 0 if setting.rows is None else _table_bytes(config, setting, num_matches, size)
    features = Features(
        batch_size=batch_size,
        num_bytes=2 * 4 * groups * dim,
        bank_rows=drawn + batch_size if "bank" in sources else 0,
        table_bytes=table_bytes,
        has_in_batch="in_batch" in sources,
        has_queue="queue" in sources,
    )
    return Cost({"contrastive": float(projections + 2 * 3 * cosines)}, scores, features)


def _table_bytes(config: ConfigDict, setting: Setting, num_matches: int, size: StepSize) -> int:
    """Bytes of the rows that a step looks up in the tables: class and text number, the index, the teacher's states."""
    options, batch_size = config.negatives, size.batch_size
    sources = options.source.split("+")
    times = 1 if options.shared else batch_size
    drawn = min(options.num_negatives, size.num_train) if options.shared else options.num_negatives
    num_bytes = 8 * batch_size  # the batch's own
    for source in sources:
        if source not in ("bank", "teacher_cache"):
            continue
        num_bytes += 8 * times * drawn
        if not options.shared and options.label_aware:
            num_bytes += (4 * drawn + 8) * batch_size
        if source == "teacher_cache":
            rows = times * drawn + batch_size * options.num_hard
            num_bytes += 4 * rows * num_matches * setting.teacher.config.hidden_size
            num_bytes += 8 * batch_size * options.num_hard + 4 * batch_size * options.num_neighbours * bool(
                options.num_hard
            )
    return num_bytes
