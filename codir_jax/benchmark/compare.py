"""Two commands in turns, pair by pair: whatever else the machine does slows both."""

import json
import os
import subprocess
from collections.abc import Callable, Sequence
from typing import Any

from codir_jax.benchmark.child import failure
from codir_jax.benchmark.turns import spread
from codir_jax.processes.user_error import UserError

# In the order in which they are looked for: a median step is disturbed less than a mean.
FIELDS = ("sentences_per_second_median", "sent_per_s_median", "sentences_per_second")


def compare(
    ours: Sequence[str], theirs: str, num_pairs: int, run: Callable | None = None, say: Callable = print
) -> dict[str, Any]:
    """Runs both `num_pairs` times; the one that goes first changes from pair to pair.

    Args:
      ours: words of our command. theirs: a shell command. Each ends its standard output with a line of JSON that has
        one of FIELDS.
      run: (command) -> its standard output; by default a child process.
      say: is told each pair.

    Returns:
      {"pairs": [{"ours", "theirs", "ratio"}], "ratio": {"median", "min", "max"}}, in sentences per second.

    Raises:
      UserError: a command failed or printed no rate; the end of its output is told.
      RuntimeError: our command failed by a fault of the program.
    """
    run = run or _child
    pairs: list[dict[str, float]] = []
    for number in range(num_pairs):
        rates = {}
        for side in ("ours", "theirs") if number % 2 == 0 else ("theirs", "ours"):
            command = ours if side == "ours" else theirs
            rates[side] = read_rate(run(command), side)
        pairs.append({**rates, "ratio": rates["ours"] / rates["theirs"]})
        say(
            f"pair {number + 1} of {num_pairs}: ours {rates['ours']:.2f}, theirs {rates['theirs']:.2f} sentences/s, "
            f"ratio {pairs[-1]['ratio']:.3f}"
        )
    ratio = spread([pair["ours"] for pair in pairs], [pair["theirs"] for pair in pairs])
    say(f"ours over theirs: median {ratio['median']:.3f}, from {ratio['min']:.3f} to {ratio['max']:.3f}")
    return {"pairs": pairs, "ratio": ratio}


def read_rate(output: str, side: str) -> float:
    """Sentences per second from the last line of JSON in a command's output."""
    for line in reversed(output.splitlines()):
        try:
            values = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(values, dict):
            found = [values[name] for name in FIELDS if name in values]
            if found:
                return float(found[0])
            break
    tail = "\n".join(output.splitlines()[-3:])
    raise UserError(f"{side} must print a last line of JSON with one of {', '.join(FIELDS)}; it printed:\n{tail}")


def _child(command: Sequence[str] | str) -> str:
    is_theirs = isinstance(command, str)
    # Theirs runs as it would without us: huge pages are a setting of ours (see environment.use_huge_pages).
    environment = {k: v for k, v in os.environ.items() if not (is_theirs and k == "GLIBC_TUNABLES")}
    done = subprocess.run(command, shell=is_theirs, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        told = command if isinstance(command, str) else " ".join(command)
        tail = "\n".join(done.stderr.splitlines()[-5:])
        message = f"{told!r} ended with status {done.returncode}:\n{tail}"
        raise UserError(message) if is_theirs else failure(done.returncode, message)
    return done.stdout
