"""All tests run on 8 fake CPU devices; jax reads these once, so they are set before it is imported."""

import atexit
import importlib.metadata
import os
import shutil
import tempfile

from codir_jax.processes import environment

environment.set_for_compilers()  # on a CPU; compilers of other machines are at hand for tests marked aot
# Most of the suite's time is compilation of tiny programs; their speed does not matter, so XLA optimises little.
QUICK_TO_COMPILE = "--xla_backend_optimization_level=0"
# Every worker has a core: a program in many parts, compiled by many threads, takes a tenth more of it.
QUICK_TO_COMPILE += " --xla_cpu_parallel_codegen_split_count=1"
# Its older way to emit loops compiles in half the time (a CoDIR step on 8 devices: 2.5 s of CPU for 5.4). Later
# versions have it no more, and XLA ends the process at a flag that it does not know.
if importlib.metadata.version("jaxlib").startswith("0.10."):
    QUICK_TO_COMPILE += " --xla_cpu_use_fusion_emitters=false"
FLAGS = f"--xla_force_host_platform_device_count=8 {QUICK_TO_COMPILE}"
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAGS}"
    # The user's caches are none of a test's business: what a run keeps by default goes to a folder of this session.
    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="codir-test-cache-")
    atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)
    # The workers inherit it: what one has compiled, none compiles again.
    os.environ["JAX_COMPILATION_CACHE_DIR"] = os.path.join(os.environ["XDG_CACHE_HOME"], "compiled")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "0"
    # No stack of Python lines beside each operation: a twentieth less time to lower.
    os.environ["JAX_TRACEBACK_IN_LOCATIONS_LIMIT"] = "0"
