"""The contrast asked of tokens: a student's token tells its own teacher state, or whom that resembles, among keys.

    one_hot   -log softmax over {t, k} of <s, .> / tau at t                     (QuantGPT, Tao et al., ACL 2022)
    teacher   KL( softmax(<t, .> / tau_T) || softmax(<s, .> / tau) ) over {t, k}  (SEED, Fang et al., ICLR 2021, there
              of images); for small s - t a squared distance, weighted by the directions in which keys differ from t

s, t: features of `spaces` of one token in a matched layer. Keys k are teacher states of other tokens, all of them
constants unless projected:

    same_text       the other tokens of the text; costs no traffic
    near_positions  of these, those at most `window` tokens away
    batch           `num_sampled` tokens of the global batch, one draw for all anchors: what devices exchange and the
                    scores of an anchor do not grow with the batch
    same_word       similarly drawn among tokens whose word piece comes again in the batch; keys of an anchor are those
                    of its own word piece in other places, which its embedding does not tell apart
    near_layers     the same token in the teacher layers next to it, one below and one above
    queue           sampled tokens of earlier steps

A key that the teacher itself sees as the anchor's double (cosine above `similarity_ceiling`) is left out.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from codir_jax.losses import contrastive, distillation
from codir_jax.negatives import memory_bank, repeats
from codir_jax.objectives import spaces
from codir_jax.objectives.contract import Setting
from codir_jax.objectives.cost import Features, StepSize
from codir_jax.objectives.hidden_term import mean_of_tokens
from codir_jax.objectives.sums import masked_sum
from codir_jax.objectives.views import Views, matches
from codir_jax.processes.user_error import UserError
from codir_jax.sharding.rules import constrain

QUEUE = "token_queue"


def sources_of(config: ConfigDict) -> tuple[str, ...]:
    """The sources of keys that the config names."""
    return tuple(config.contrast.keys_from.split("+"))


def layers(config: ConfigDict, setting: Setting) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(student layers, teacher layers) whose states of every token are needed.

    Raises:
      UserError: neighbours are asked for of a teacher of one layer.
    """
    ours, theirs = zip(*matches(config, setting), strict=True)
    if "near_layers" in sources_of(config):
        if setting.teacher.config.num_layers < 2:
            raise UserError("objective.contrast.keys_from has near_layers, and the teacher has one layer")
        theirs += tuple(layer for own in theirs for layer in _neighbours(own, setting))
    return tuple(sorted(set(ours))), tuple(sorted(set(theirs)))


def _neighbours(layer: int, setting: Setting) -> tuple[int, int]:
    """The teacher's layers below and above; of the first and the last one, the two next to it."""
    first = min(max(layer - 1, 0), setting.teacher.config.num_layers - 2)
    return tuple(near for near in range(first, first + 3) if near != layer)


def init_state(config: ConfigDict, setting: Setting) -> dict:
    """The queue of token features, whole on every device, where the config asks for one."""
    if "queue" not in sources_of(config):
        return {}
    num, width = len(matches(config, setting)), setting.teacher.config.hidden_size
    size = spaces.num_groups(config, num) * spaces.feature_size(config, num, width)
    return {QUEUE: memory_bank.init_queue(config.contrast.queue_size, size)}


def token_term(config: ConfigDict, setting: Setting, params, views: Views, state, batch, rng):
    """The contrastive loss of each text, float32 [batch], the state after the batch, and metrics.

    Args:
      params: holds what `spaces.init` made.
      state: holds what `init_state` made; other entries pass through.
      rng: of the sampled tokens.
    """
    tokens = _Tokens(config, setting, params, views, batch)
    keys, new_state = _keys(config, tokens, state, batch, rng)
    own = jnp.einsum("blgd,blgd->blg", tokens.student, tokens.teacher)
    is_real = tokens.is_real[:, :, None]
    sources = []
    for ours, theirs, usable in keys:
        usable = usable[:, :, None] & is_real[..., None]
        if config.contrast.similarity_ceiling < 1:
            usable &= theirs <= config.contrast.similarity_ceiling
        sources.append((ours, jax.lax.stop_gradient(theirs), jnp.broadcast_to(usable, ours.shape)))
    itself = (own[..., None], jnp.ones_like(own)[..., None], jnp.broadcast_to(is_real, own.shape)[..., None])
    tau, negatives = config.contrastive_temperature, [(ours, usable) for ours, _, usable in sources]
    if config.contrast.target == "teacher":
        teacher_tau = config.contrast.teacher_temperature
        values, _ = distillation.similarity_loss([itself, *sources], tau, teacher_tau)
    else:
        teacher_tau = tau
        values = contrastive.info_nce(own, negatives, tau)
    losses = mean_of_tokens(values.mean(-1), batch["attention_mask"])

    everything = [itself, *sources]
    num_keys = sum(usable.sum(-1) for _, usable in negatives)  # [batch, tokens, groups]
    real = jnp.broadcast_to(is_real, own.shape)
    metrics = {
        "contrastive_loss": masked_sum(losses, batch["example_mask"]),
        "num_token_keys": masked_sum(num_keys, real),
        "token_retrieval_rate": masked_sum(contrastive.ranks_first(own, negatives), real & (num_keys > 0)),
        "student_entropy": masked_sum(contrastive.entropy([(x, u) for x, _, u in everything], tau), real),
        "teacher_entropy": masked_sum(contrastive.entropy([(x, u) for _, x, u in everything], teacher_tau), real),
    }
    return losses, new_state, jax.lax.stop_gradient(metrics)


class _Tokens:
    """Features of all tokens of the batch.

    Attributes:
      student, teacher: unit float32 [batch, tokens, groups, size]. is_real: bool [batch, tokens].
      neighbours: [batch, tokens, groups, 2, size], of the teacher's layers below and above; None unless they are keys.
    """

    def __init__(self, config, setting, params, views: Views, batch):
        pairs = matches(config, setting)
        self.is_real = (batch["attention_mask"] > 0) & (batch["example_mask"] > 0)[:, None]
        self._shape, flat = self.is_real.shape, self.is_real.reshape(-1)

        def of_layers(side, states, chosen, middle=None):
            stacked = jnp.stack([states[layer] for layer in chosen], axis=2)
            stacked = stacked.reshape(-1, *stacked.shape[2:])
            middle = spaces.centre(config, stacked, flat) if middle is None else middle
            found = spaces.features(config, params, side, stacked, middle)
            return found.reshape(*self._shape, *found.shape[1:]), middle

        theirs = [layer for _, layer in pairs]
        self.teacher, middle = of_layers("teacher", views.teacher_tokens, theirs)
        self.student, _ = of_layers("student", views.student_tokens, [layer for layer, _ in pairs], middle)
        self.neighbours = None
        if "near_layers" in sources_of(config):
            near = [[_neighbours(layer, setting)[i] for layer in theirs] for i in (0, 1)]
            found = [of_layers("teacher", views.teacher_tokens, chosen)[0] for chosen in near]
            self.neighbours = jnp.stack(found, axis=3)


def _keys(config, tokens: _Tokens, state, batch, rng):
    """([(student's cosines, teacher's, float32 [batch, tokens, groups, K]; usable bool [batch, tokens, K])], state)."""
    names, options = sources_of(config), config.contrast
    num_texts, length = tokens.is_real.shape
    found, new_state = [], dict(state)

    def add(equation, rows, usable):
        ours, theirs = (_product(equation, anchors, rows) for anchors in (tokens.student, tokens.teacher))
        found.append((ours, theirs, jnp.broadcast_to(usable, (*tokens.is_real.shape, ours.shape[-1]))))

    positions = jnp.arange(length)
    of_text = {"same_text", "near_positions"} & set(names)
    if of_text:
        distance = jnp.abs(positions[:, None] - positions)
        limit = length if "same_text" in names else options.window
        add("blgd,bkgd->blgk", tokens.teacher, tokens.is_real[:, None] & (distance > 0) & (distance <= limit))
    if "near_layers" in names:
        add("blgd,blgkd->blgk", tokens.neighbours, True)
    if not {"batch", "same_word", "queue"} & set(names):
        return found, new_state

    places = jnp.arange(num_texts * length).reshape(num_texts, length)
    words, is_real = constrain(batch["input_ids"]).reshape(-1), constrain(tokens.is_real).reshape(-1)
    text_ids, own_words = constrain(batch["text_ids"]), batch["input_ids"]
    rows = tokens.teacher.reshape(-1, *tokens.teacher.shape[2:])
    sampled = None
    for name, candidates in (("batch", is_real), ("same_word", is_real & _comes_again(words, is_real))):
        if name not in names and not (name == "batch" and "queue" in names):
            continue
        chosen, is_chosen = _sample(jax.random.fold_in(rng, len(name)), candidates, options.num_sampled)
        features = constrain(jnp.take(rows, chosen, axis=0, mode="clip"))
        is_other = is_chosen & (chosen != places[..., None])
        if of_text:  # those are there already
            is_near = jnp.abs(chosen % length - positions[:, None]) <= limit
            is_other &= ~(is_near & (chosen // length == jnp.arange(num_texts)[:, None, None]))
        if name == "same_word":
            is_other &= words[chosen] == own_words[..., None]
            if sampled is not None and "batch" in names:
                is_other &= ~repeats.is_among(chosen, jnp.where(sampled[1], sampled[0], -1))
        if name in names:
            add("blgd,kgd->blgk", features, is_other)
        if name == "batch":
            sampled = chosen, is_chosen, features
    if "queue" in names:
        queue, (chosen, is_chosen, features) = state[QUEUE], sampled
        earlier = queue["rows"].reshape(-1, *rows.shape[1:])
        usable = queue["is_valid"] & (queue["text_ids"] != batch["text_ids"][:, None])
        add("blgd,kgd->blgk", earlier, usable[:, None])
        new_rows = jax.lax.stop_gradient(features).reshape(len(chosen), -1)
        new_state[QUEUE] = memory_bank.push(queue, new_rows, words[chosen], text_ids[chosen // length], is_chosen)
    return found, new_state


def _product(equation: str, anchors: jax.Array, rows: jax.Array) -> jax.Array:
    return jnp.einsum(equation, anchors, rows, precision=jax.lax.Precision.HIGHEST)


def _comes_again(words: jax.Array, is_real: jax.Array) -> jax.Array:
    """Bool [n]: a real token of the same word piece is elsewhere among these."""
    words = jnp.where(is_real, words, -1)
    ordered = jnp.sort(words)
    count = jnp.searchsorted(ordered, words, side="right") - jnp.searchsorted(ordered, words, side="left")
    return count > 1


def _sample(rng: jax.Array, candidates: jax.Array, num: int) -> tuple[jax.Array, jax.Array]:
    """(int32 [K] places, ascending, of at most `num` candidates, drawn without replacement; bool [K], False beyond)."""
    num = min(num, len(candidates))
    scores = jnp.where(candidates, jax.random.uniform(rng, candidates.shape), -1.0)
    top, places = jax.lax.top_k(scores, num)
    # In the order of the batch: where all candidates are drawn, the draw changes nothing.
    places = jnp.sort(jnp.where(top >= 0, places, len(candidates)))
    return jnp.minimum(places, len(candidates) - 1), places < len(candidates)


def cost(config: ConfigDict, setting: Setting, size: StepSize) -> tuple[float, float, Features]:
    """(operations on all devices, scores on one, what is sent) of a step."""
    names, options = sources_of(config), config.contrast
    num, width = len(matches(config, setting)), setting.teacher.config.hidden_size
    groups, dim = spaces.num_groups(config, num), spaces.feature_size(config, num, width)
    length, num_tokens = size.length, size.batch_size * size.length
    sampled = min(options.num_sampled, num_tokens)
    draws = (bool({"batch", "queue"} & set(names))) + ("same_word" in names)
    keys = sampled * (("batch" in names) + ("same_word" in names))
    keys += length * bool({"same_text", "near_positions"} & set(names)) + 2 * ("near_layers" in names)
    keys += options.queue_size * ("queue" in names)
    cosines = 2.0 * num_tokens * keys * groups * dim
    flops = 4 * cosines  # forward of both sides, backward of the student's two operands at most
    if config.contrast.space == "projected":
        flops += 2.0 * num_tokens * num * dim * (3 * setting.student.config.hidden_size + 2 * width)
    sent = Features(
        batch_size=0,
        num_bytes=0,
        bank_rows=0,
        table_bytes=4 * draws * sampled * groups * dim + 8 * num_tokens * bool(draws),
        has_in_batch=False,
        has_queue=False,
    )
    return flops, num_tokens / size.shards * keys * groups, sent
