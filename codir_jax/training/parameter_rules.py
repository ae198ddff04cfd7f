"""Which parameters are trained, with which rate and which decay: ordered (path pattern, rule) pairs.

The path of a parameter is "student/encoder/layer_0/attention/query/kernel" or "projection_student/bias". A pattern is a
regular expression that matches the WHOLE path, and every parameter is matched by exactly one:

    ("student/encoder/.*: frozen", "(?!student/encoder/).*: rate=2 decay=0.01")

The second pattern, with its negative lookahead, is everything that does not begin with student/encoder/.
"""

import difflib
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax

from codir_jax.processes.user_error import UserError

FROZEN = "frozen"
# The last part of a path: "bias", "scale" (of a norm), "decoder_bias". The shape does not tell: the biases of several
# projections are one [groups, dim] array.
_BIAS_OR_NORM = re.compile(r"(.*_)?(bias|scale)")


class Rule(NamedTuple):
    """How the parameters of a pattern are trained; in a pair, None in its place means frozen.

    Attributes:
      rate: multiplier of the learning rate, > 0.
      decay: weight decay of all of them, >= 0; None: by the name of each, see `decay_of`.
    """

    rate: float = 1.0
    decay: float | None = None


Pairs = Sequence[tuple[str, Rule | None]]

DEFAULT: Pairs = ((".*", Rule()),)


def parse(texts: Sequence[str]) -> Pairs:
    """The pairs of texts "PATTERN: rule", in order; `DEFAULT` for no text.

    A rule is "frozen", or settings of `Rule` separated by spaces: "rate=2 decay=0.01". The last ":" ends the pattern.

    Raises:
      UserError: not such a text, not a regular expression, an unknown setting or an impossible value.
    """
    if isinstance(texts, str):
        raise UserError(f"optimizer.rules={texts!r} must be a list of texts 'PATTERN: rule'; put it in brackets")
    pairs = tuple(_parse_one(text) for text in texts) or DEFAULT
    check(pairs)
    return pairs


def check(pairs: Pairs) -> None:
    """Refuses what is wrong with the pairs themselves, whatever the parameters are.

    Raises:
      UserError: not a regular expression, or an impossible value.
    """
    for pattern, rule in pairs:
        try:
            re.compile(pattern)
        except re.error as error:
            raise UserError(
                f"optimizer.rules: {pattern!r} is not a regular expression ({error}); 'student/encoder/.*' is one"
            ) from error
        if rule is None:
            continue
        if not (rule.rate > 0 and math.isfinite(rule.rate)):
            raise UserError(
                f"optimizer.rules: rate={rule.rate} of {pattern!r} must be > 0 and finite; '{pattern}: {FROZEN}' "
                "trains nothing"
            )
        if rule.decay is not None and not (rule.decay >= 0 and math.isfinite(rule.decay)):
            raise UserError(f"optimizer.rules: decay={rule.decay} of {pattern!r} must be >= 0 and finite")


def check_coverage(pairs: Pairs, params: Any) -> None:
    """Checks that every parameter is matched by exactly one pattern and every pattern matches a parameter.

    Args:
      pairs: (pattern, rule).
      params: tree of arrays or jax.ShapeDtypeStructs, without boxes; only its paths matter.

    Raises:
      UserError: it names the parameter and the patterns.
    """
    paths = [path_of(keys) for keys, _ in jax.tree_util.tree_leaves_with_path(params)]
    matches = {path: [pattern for pattern, _ in pairs if re.fullmatch(pattern, path)] for path in paths}
    for pattern, _ in pairs:
        if not any(pattern in found for found in matches.values()):
            nearest = difflib.get_close_matches(pattern, paths, n=1, cutoff=0.0)
            raise UserError(
                f"optimizer.rules: {pattern!r} matches no parameter; a pattern must match a whole path"
                + (f", and the nearest path is {nearest[0]!r}" if nearest else "")
            )
    patterns = ", ".join(repr(pattern) for pattern, _ in pairs)
    uncovered = [path for path, found in matches.items() if not found]
    if uncovered:
        more = f" (and {len(uncovered) - 1} other parameters)" if len(uncovered) > 1 else ""
        raise UserError(
            f"optimizer.rules: no pattern matches the parameter {uncovered[0]!r}{more}; the patterns are {patterns}. "
            "Every parameter needs exactly one: add a rule"
        )
    for path, found in matches.items():
        if len(found) > 1:
            raise UserError(
                f"optimizer.rules: {len(found)} patterns match the parameter {path!r}: "
                f"{' and '.join(map(repr, found))}. Every parameter needs exactly one: make one pattern narrower, for "
                "example '(?!student/).*' is all that does not begin with student/"
            )
    if all(rule is None for _, rule in pairs):
        raise UserError(f"optimizer.rules: every parameter is frozen by {patterns}; at least one must be trained")


def trained(pairs: Pairs, params: Any) -> Any:
    """A tree of bool like the parameters: False where a parameter is frozen."""
    return map_rules(pairs, lambda rule, path, leaf: rule is not None, params)


def decay_of(rule: Rule, path: str, ndim: int, *, default: float, decays_bias_and_norm: bool) -> float:
    """Weight decay of a parameter.

    That of its rule; where the rule has none, `default`, but 0 for biases and norm scales unless they decay too. Those
    are known by name: the last part of the path is or ends with "bias" or "scale". So are vectors and scalars of other
    names: only matrices decay.

    Args:
      rule: of the parameter.
      path: of the parameter.
      ndim: number of its dimensions.
      default: weight decay of matrices.
      decays_bias_and_norm: whether the others decay too.
    """
    if rule.decay is not None:
        return rule.decay
    is_spared = ndim < 2 or _BIAS_OR_NORM.fullmatch(path.rpartition("/")[2])
    return 0.0 if is_spared and not decays_bias_and_norm else default


def map_rules(pairs: Pairs, function: Callable, tree: Any, *rest: Any) -> Any:
    """The tree of function(rule, path, leaf, *leaves of the rest), for trees that `check_coverage` accepts."""

    def apply(keys, *leaves):
        path = path_of(keys)
        rule = next(rule for pattern, rule in pairs if re.fullmatch(pattern, path))
        return function(rule, path, *leaves)

    return jax.tree_util.tree_map_with_path(apply, tree, *rest)


def path_of(keys: Sequence[Any]) -> str:
    """The path of a leaf as a text, its parts joined by "/"."""
    return jax.tree_util.keystr(keys, simple=True, separator="/")


def _parse_one(text: str) -> tuple[str, Rule | None]:
    if not isinstance(text, str) or not all(part.strip() for part in text.rpartition(":")):
        raise UserError(
            f"optimizer.rules: expected 'PATTERN: rule', such as 'student/encoder/.*: frozen', got {text!r}"
        )
    pattern, _, words = (part.strip() for part in text.rpartition(":"))
    if words == FROZEN:
        return pattern, None
    settings: dict[str, float] = {}
    for word in words.split():
        name, _, value = word.partition("=")
        if name not in Rule._fields or name in settings:
            raise UserError(
                f"optimizer.rules: {word!r} in {text!r}; a rule is '{FROZEN}', or "
                f"{' and '.join(f'{field}=NUMBER' for field in Rule._fields)}, each at most once, with a space between"
            )
        try:
            settings[name] = float(value)
        except ValueError as error:
            raise UserError(f"optimizer.rules: {name} in {text!r} expects a number, got {value!r}") from error
    return pattern, Rule(**settings)
