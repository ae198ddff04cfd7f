"""A measurement in a process of its own."""

import sys

from codir_jax.benchmark.bench import Request
from codir_jax.processes.user_error import UserError


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


def failure(status: int, message: str) -> Exception:
    """The error of such a process that ended with `status`: a UserError only where the process had one itself."""
    return (UserError if status == UserError.exit_status else RuntimeError)(message)
