"""All tests run on 8 fake CPU devices; jax reads these once, so they are set before it is imported."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
# Most of the suite's time is compilation of tiny programs; their speed does not matter, so XLA optimises little.
FLAGS = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAGS}"
