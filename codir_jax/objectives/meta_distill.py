"""Meta-KD, step 2, stage A: a student imitates the meta-teacher's inside on one domain, hard examples less.

    L = mean_i lambda_i ( attention_i + hidden_i + g2 domain_i ),    lambda_i = (1 + t_i) / (exp((1 - p_i)^2) + 1)

attention: raw scores of matched layers. hidden: states of matched layers, the embeddings included, through one map
W_fit that all depths share. domain: the feature of `domain_feature`, the teacher's by the weights kept beside its best
model. p is the teacher's probability of the true class; of an example without a label, of its own first choice. Stage
B, the prediction, is `distill` with soft targets alone.

What the teacher cache keeps of a text is padded to the longest batch: with 3 layers of 12 heads and 384 features, 64
tokens and bfloat16 half a megabyte.

Source: as of `meta_teacher`. The released lambda did not reach the domain term, and its means took padding in.
"""

import functools

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from codir_jax.losses import domains as losses
from codir_jax.models.apply import apply_with_scores
from codir_jax.objectives import domain_feature, width_map
from codir_jax.objectives.contract import Objective, Setting, Step, TeacherView
from codir_jax.objectives.cost import no_cost
from codir_jax.objectives.meta_teacher import num_domains
from codir_jax.objectives.microbatches import in_microbatches, run_student
from codir_jax.objectives.sums import masked_sum, mean
from codir_jax.objectives.texts import init_model
from codir_jax.processes import fields
from codir_jax.processes.fields import defaults, field
from codir_jax.processes.user_error import UserError

HEADS, ROLES = ("classification",), ("student", "teacher")


FIELDS = {
    "name": field("meta_distill", "the method, a file of codir_jax/objectives"),
    "is_weighted": field(True, "t of the column example_weights; False: t = 1 everywhere"),
    "uses_difficulty": field(True, "lambda; False: lambda = 1"),
    # 0: no attention term, and heads may differ in number.
    "attention_weight": field(1.0, "weight of the attention term", at_least=0, at_most=1e6),
    "hidden_weight": field(1.0, "weight of the hidden states' term", at_least=0, at_most=1e6),
    "domain_weight": field(0.5, "g2, weight of the domain term; 0: none", at_least=0, at_most=1e6),
    "legacy_padding": field(False, "means over padding too, as the released code"),
}


def default_config(preset: str = "paper") -> ConfigDict:
    """Fields of the method. `preset` is "paper" or "released"."""
    if preset not in ("paper", "released"):
        raise UserError(f"preset {preset!r}; known: paper, released")
    config = ConfigDict(defaults(FIELDS))
    config.legacy_padding = preset == "released"
    return config


def check(config: ConfigDict) -> None:
    """Refuses what cannot be.

    Raises:
      UserError: what was expected, what came.
    """
    fields.check(FIELDS, config, "objective")
    if not any(config[f"{name}_weight"] for name in ("attention", "hidden", "domain")):
        raise UserError("all weights of objective.name='meta_distill' are 0: there is nothing to learn")


def make(config: ConfigDict, setting: Setting) -> Objective:
    """The objective.

    Raises:
      UserError: depths that do not divide, unequal numbers of heads, a regression, or texts with any number of classes.
    """
    check(config)
    if setting.head.is_multi_label or setting.head.is_regression:
        found = "the labels are a regression's" if setting.head.is_regression else "these have several"
        raise UserError(f"objective.name='meta_distill' is of one class a text, and {found}")
    ours, theirs = setting.student.config, setting.teacher.config
    if theirs.num_layers % ours.num_layers:
        raise UserError(
            f"meta_distill matches layer l of the student with layer r l of the teacher: {theirs.num_layers} layers "
            f"are no multiple of {ours.num_layers}; set student.num_layers to a divisor"
        )
    if config.attention_weight and ours.num_heads != theirs.num_heads:
        raise UserError(
            f"attention scores of {ours.num_heads} and {theirs.num_heads} heads cannot be compared; give the student "
            "as many heads as the teacher, or set objective.attention_weight=0"
        )
    if config.attention_weight and setting.student.remat != "none":
        raise UserError("scores are not kept where layers are recomputed; set student.remat=none")
    columns = setting.rows.columns if setting.rows is not None else {}
    for column, is_needed in (("domain_ids", config.domain_weight), ("example_weights", config.is_weighted)):
        if is_needed and column not in columns:
            raise UserError(
                f"objective.name='meta_distill' needs the column {column}: `codir weigh` makes files that have it; "
                "then set data.columns='domain_ids=domain_number,example_weights=weight'"
            )
    count = num_domains(setting, config.name) if config.domain_weight else 0
    ratio = theirs.num_layers // ours.num_layers

    def init(rng, batch):
        student_rng, teacher_rng, map_rng, domain_rng = jax.random.split(rng, 4)
        params = {"student": init_model(setting.student, student_rng, batch)}
        params["fit"] = width_map.init(map_rng, ours.hidden_size, theirs.hidden_size)
        frozen = {"teacher": init_model(setting.teacher, teacher_rng, batch)}
        if config.domain_weight:
            # Stands in for the weights beside the teacher, which tell how many domains it knows.
            frozen["teacher_domain"] = domain_feature.init(domain_rng, 1, theirs.hidden_size)
            params[domain_feature.NAME] = domain_feature.init(domain_rng, count, ours.hidden_size)
        return params, frozen, {}

    def run(model, params, part, rng):
        output, scores = apply_with_scores(model, params, part, rng)
        return output.hidden_states, scores if config.attention_weight else (), output.logits

    def taught(params, batch):
        """Of matched layers: states, each [batch, tokens, width], raw scores, each [batch, heads, tokens, tokens]; h of
        the last layer [batch, width], and logits."""
        parts = in_microbatches(
            lambda part, _: run(setting.teacher, params, part, None), setting.num_microbatches, batch, None
        )
        states, scores, logits = jax.lax.stop_gradient(parts)
        content = losses.content_mean(states[-1], batch["attention_mask"], config.legacy_padding)
        return states[::ratio], scores[ratio - 1 :: ratio], content, logits

    def view(params, batch):
        states, scores, content, logits = taught(params, batch)
        missing = max(setting.longest - batch["attention_mask"].shape[1], 0)
        rows = {"teacher_content": content, "teacher_logits": logits}
        if config.hidden_weight:
            rows["teacher_states"] = _padded(jnp.stack(states, axis=1), missing, axes=(2,))
        if config.attention_weight:
            rows["teacher_scores"] = _padded(jnp.stack(scores, axis=1), missing, axes=(3, 4))
        return rows

    def read_view(batch):
        """What `taught` returns, of kept rows."""
        length = batch["attention_mask"].shape[1]
        states = batch["teacher_states"][:, :, :length] if config.hidden_weight else None
        scores = batch["teacher_scores"][..., :length, :length] if config.attention_weight else None
        layers = [() if x is None else tuple(jnp.moveaxis(x, 1, 0)) for x in (states, scores)]
        return (*layers, batch["teacher_content"], batch["teacher_logits"])

    def loss(params, frozen, objective_state, batch, step: Step):
        ours_of = functools.partial(run, setting.student, params["student"])
        states, scores, _ = run_student(setting, params["student"], batch, step.rng, lambda read, _: read, run=ours_of)
        is_kept = "teacher_logits" in batch
        their_states, their_scores, content, logits = read_view(batch) if is_kept else taught(frozen["teacher"], batch)
        mask, legacy, fit = batch["attention_mask"], config.legacy_padding, params["fit"]
        real = batch["example_mask"]
        terms = {}
        if config.attention_weight:
            terms["attention"] = losses.attention_distance(scores, their_scores, mask, legacy)
        if config.hidden_weight:
            fitted = [width_map.apply(fit, x) for x in states]
            terms["hidden"] = losses.hidden_distance(fitted, their_states, mask, legacy)
        if config.domain_weight:
            domains = batch["domain_ids"].astype(jnp.int32)
            own_content = losses.content_mean(states[-1], mask, legacy)
            own = domain_feature.feature(params[domain_feature.NAME], domains, own_content)
            theirs_feature = domain_feature.feature(_with_unknown(frozen["teacher_domain"]), domains, content)
            terms["domain"] = losses.feature_distance(width_map.apply(fit, own), theirs_feature)
        values = sum(config[f"{name}_weight"] * value for name, value in terms.items())
        weights = _lambda(config, batch, logits)
        metrics = {f"{name}_loss": masked_sum(value, real) for name, value in terms.items()}
        metrics["lambda"] = masked_sum(weights, real)
        return mean(masked_sum(weights * values, real)), (objective_state, metrics)

    reads = (domain_feature.NAME,) if config.domain_weight else ()
    kinds = [kind for kind in ("attention", "hidden") if config[f"{kind}_weight"]]
    # Means that take padding in depend on the length of the batch: they are of the live teacher only.
    kept = None if config.legacy_padding else TeacherView(view, {"inside": kinds, "every": ratio})
    return Objective(init, loss, teacher_view=kept, cost=no_cost, reads=reads)


def _padded(x: jax.Array, missing: int, axes: tuple[int, ...]) -> jax.Array:
    """`x` with so many zeros behind each of the axes."""
    return jnp.pad(x, [(0, missing if axis in axes else 0) for axis in range(x.ndim)])


def _with_unknown(params):
    """The teacher's domain weights; a domain that it was not trained on has the mean of the others' embeddings.

    Numbers of such domains come after those of the teacher's, and an index beyond the end reads the last row.
    """
    table = params["embedding"]
    return {**params, "embedding": jnp.concatenate([table, table.mean(axis=0, keepdims=True)])}


def _lambda(config, batch, logits: jax.Array) -> jax.Array:
    """float32 [batch]."""
    weights = batch["example_weights"] if config.is_weighted else jnp.ones(len(logits), jnp.float32)
    if not config.uses_difficulty:
        return weights
    probabilities = jax.nn.softmax(logits.astype(jnp.float32))
    true = jnp.take_along_axis(probabilities, batch["labels"].astype(jnp.int32)[:, None], axis=1)[:, 0]
    return losses.difficulty_weight(weights, jnp.where(batch["label_mask"] > 0, true, probabilities.max(-1)))
