"""What is checked and told between reading the data and the first step."""

from ml_collections import ConfigDict

from codir_jax.models.contract import family
from codir_jax.models.layer_selection import match_layers
from codir_jax.processes.user_error import UserError
from codir_jax.stage import config as stage_config
from codir_jax.stage.models import Model


def describe_models(config: ConfigDict, student: Model, teacher: Model | None) -> str:
    """One line: what the student is, where its weights come from and which layers are matched."""
    text = f"student: {student.config.num_layers} layers x {student.config.hidden_size}"
    if config.student.init == "teacher":
        select = family(teacher.config.family).start_layers
        layers = select(config.student.init_layers, teacher.config, student.config.num_layers)
        text += f", started from teacher layers {', '.join(map(str, layers))} of {teacher.config.num_layers}"
    elif config.student.init == "pretrained":
        text += f", started from {config.student.path}"
        if student.source.new_weights:
            text += f" (new: {', '.join(student.source.new_weights)})"
    else:
        text += ", random weights"
    if "layer_matches" in config.objective:
        pairs = match_layers(config.objective.layer_matches, teacher.config.num_layers, student.config.num_layers)
        text += f"; matched student:teacher layers {', '.join(f'{s}:{t}' for s, t in pairs)}"
    return text


def check_length(config: ConfigDict, student: Model) -> None:
    """Refuses texts longer than the student has positions for."""
    if config.data.max_length > student.config.max_length:
        raise UserError(
            f"data.max_length {config.data.max_length} is above the model's {student.config.max_length} positions; "
            "lower it"
        )


def check_batch_sizes(config: ConfigDict, shards: int, num_processes: int) -> None:
    """Refuses batches that the devices do not divide, with sizes that they do, and processes that share rows.

    Args:
      shards: parts that a batch is split into. num_processes: each reads its own rows.
    """
    if shards % num_processes:
        raise UserError(
            f"{num_processes} processes, but the mesh splits a batch into {shards}: mesh.model spans processes, which "
            "each read rows of their own; lower mesh.model so that mesh.data x mesh.fsdp is a multiple of the processes"
        )
    parts = {"batch_size": config.train.num_microbatches, "eval_batch_size": 1}
    for field, num in parts.items():
        if field not in config.data:  # the task shares the rows of an evaluation by itself
            continue
        size, whole = config.data[field], num * shards
        why = f"train.num_microbatches={num} on {shards} devices" if num > 1 else f"{shards} devices"
        if size % whole:
            lower = max(size // whole, 1) * whole
            raise UserError(f"data.{field} {size} is not divisible by {why}; use {lower} or {lower + whole}")


def check_warmup(warmup_steps: int, num_steps: int) -> None:
    """Refuses a warm-up that the run does not see the end of."""
    if warmup_steps > num_steps:
        raise UserError(
            f"optimizer.warmup_*: {warmup_steps} steps of warm-up, and the run has {num_steps}; shorten it, or "
            "lengthen train.total_*"
        )


def check_config(config: ConfigDict, saved: dict) -> str:
    """Refuses to resume a run of another config; one line where that cannot be told, else empty.

    Args:
      saved: facts of the checkpoint; `config` holds the fields that bind a run.

    Raises:
      UserError: the fields that differ.
    """
    if "config" not in saved:
        return "note: the checkpoint is of an earlier version and holds no config; only config.json was compared"
    if differing := stage_config.differing(config, saved["config"]):
        raise UserError(
            "the checkpoint is of a run of another config; set these fields as they were there, or start in another "
            "--workdir:\n  " + "\n  ".join(differing)
        )
    return ""


def check_fingerprints(ours: dict, saved: dict) -> None:
    """Refuses to resume on other data, with another teacher or by another matmul precision.

    Args:
      ours, saved: hold data_fingerprint, teacher_fingerprint and arithmetic (`environment.arithmetic`).

    Raises:
      UserError: what changed, and what to do.
    """
    for key in ("data_fingerprint", "teacher_fingerprint"):
        if ours[key] != saved[key]:
            what = key.removesuffix("_fingerprint")
            raise UserError(
                f"the {what} changed since the checkpoint was written ({saved[key][:12]} then, {ours[key][:12]} now); "
                "restore it, or start in another --workdir"
            )
    precision, before = (facts["arithmetic"]["matmul_precision"] for facts in (ours, saved))
    if precision != before:
        raise UserError(
            f"the matmul precision changed since the checkpoint was written ({before} then, {precision} now); set "
            f"JAX_DEFAULT_MATMUL_PRECISION={before}, or start in another --workdir"
        )


def describe_move(ours: dict, saved: dict) -> str:
    """One line where a run goes on with other devices than it began with: allowed, and not bit for bit; else empty."""
    now, before = (facts["arithmetic"]["device_kind"] for facts in (ours, saved))
    if now == before:
        return ""
    return f"note: this run began on {before} devices and goes on with {now}: not bit for bit what one kind gives"
