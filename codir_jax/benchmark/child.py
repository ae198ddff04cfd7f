"""A measurement in a process of its own."""

import sys

from codir_jax.benchmark.bench import Request


def child_command(request: Request) -> list[str]:
    """The command that measures `request` in a process of its own and prints JSON."""
    words = [sys.executable, "-m", "codir_jax.main", "bench", "--json"]
    if request.sections:
        words.append(f"--sections={','.join(request.sections)}")
    for name in ("config", "model", "steps", "epochs", "fixed_length", "batch_size"):
        value = getattr(request, name)
        if value:
            words.append(f"--{name}={value}")
    return [*words, *(f"--config.{key}={value}" for key, value in request.overrides)]
