"""What is set before JAX starts: flags that XLA knows, once, and never too late without a word."""

import os
import subprocess
import sys

import jax
import pytest

from codir_jax.processes import environment
from codir_jax.processes.user_error import UserError


def test_a_run_that_is_to_be_deterministic_tells_xla_before_it_starts(tmp_path):
    """In a process of its own: XLA ends one at a flag that it does not know."""
    code = (
        "import os\n"
        "from codir_jax.processes import environment\n"
        "for _ in range(2):\n"
        "    environment.make_deterministic()\n"
        "import jax\n"
        "jax.devices()\n"
        "environment.make_deterministic()\n"
        "print(os.environ['XLA_FLAGS'])"
    )
    env = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["--xla_force_host_platform_device_count=2", environment.DETERMINISTIC]


def test_gpus_that_started_without_it_are_refused_and_a_cpu_needs_nothing(monkeypatch):
    jax.devices()
    flags = os.environ.get("XLA_FLAGS", "")
    environment.make_deterministic()
    assert os.environ.get("XLA_FLAGS", "") == flags
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    with pytest.raises(UserError, match="before JAX starts its GPUs"):
        environment.make_deterministic()
    monkeypatch.setenv("XLA_FLAGS", f"{flags} {environment.DETERMINISTIC}")
    environment.make_deterministic()
