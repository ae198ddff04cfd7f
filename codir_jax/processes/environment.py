"""The process environment of a command. Nothing heavy is imported here: it is set before JAX is."""

import os
import signal
import sys

from codir_jax.processes.cache_folder import cache_folder
from codir_jax.processes.user_error import UserError

# XLA's flag for GPUs: sums in a fixed order and no choice of kernels by their time. Other backends take no notice.
DETERMINISTIC = "--xla_gpu_deterministic_ops=true"


def set_defaults() -> None:
    """Compiled programs are kept between runs; libraries keep their advice to themselves. Yours stands if it is set."""
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache_folder("compiled")))
    # Small programs too: there are dozens before the first step.
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")


def set_for_compilers(num_cpu_devices: int = 0) -> None:
    """Lets the compilers of TPUs and GPUs work where none is, and touches no device; before JAX starts.

    Args:
      num_cpu_devices: fake ones of this machine, for a program that is compiled for CPU; 0: as they are.
    """
    os.environ["JAX_PLATFORMS"] = "cpu"
    # libtpu would ask a server of the cloud, and would let one process only have it.
    os.environ.update(TPU_SKIP_MDS_QUERY="1", TPU_WORKER_HOSTNAMES="localhost", TPU_WORKER_ID="0")
    os.environ.update(TPU_ACCELERATOR_TYPE="v5litepod-8", ALLOW_MULTIPLE_LIBTPU_LOAD="1")
    os.environ["JAX_SKIP_CUDA_CONSTRAINTS_CHECK"] = "1"
    if num_cpu_devices:
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={num_cpu_devices}"
        os.environ["XLA_FLAGS"] = flags.strip()


def use_huge_pages() -> None:
    """Starts this command anew with huge pages asked for, which glibc reads only when a process starts; Linux.

    A step's temporary memory goes back to the kernel after each step. In pages of 4 KiB, getting it again was a sixth
    of the CPU time of a MiniLM run (35,000 page faults a step of 32 x 16 tokens; 400 with huge pages).
    """
    if sys.platform == "linux" and "GLIBC_TUNABLES" not in os.environ:
        os.environ["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
        sys.stdout.flush()
        # What comes before the new program listens would end it without a status; `stop.preemptible` lets it through.
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def make_deterministic() -> None:
    """Makes GPUs of this process add in a fixed order, so that equal runs end bit-equal; before JAX's devices start.

    Without it, scatters (the gradient of an embedding table) add in the order in which threads come.

    Raises:
      UserError: JAX's devices have started as GPUs without it: XLA reads its flags only once.
    """
    if DETERMINISTIC in os.environ.get("XLA_FLAGS", "").split():
        return
    from jax._src import xla_bridge

    if not xla_bridge.backends_are_initialized():
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {DETERMINISTIC}".strip()
        return
    import jax

    if jax.default_backend() == "gpu":
        raise UserError(
            "train.deterministic=True must be known before JAX starts its GPUs, and this process has used them; start "
            f"a new process, or set XLA_FLAGS={DETERMINISTIC} before it starts"
        )


def arithmetic() -> dict[str, str]:
    """What decides the last bits of a result beside program and data: backend, kind of device, matmul precision."""
    import jax

    return {
        "backend": jax.default_backend(),
        "device_kind": jax.devices()[0].device_kind,
        "matmul_precision": jax.config.jax_default_matmul_precision or "default",
    }
