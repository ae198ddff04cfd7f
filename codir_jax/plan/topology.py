"""The devices of a machine that is not here, as its compiler knows them: for programs that are compiled and not run."""

import importlib.util
from typing import Any

import jax
from jax.experimental import topologies

from codir_jax.plan.machines import Devices, GpuTarget, TpuTarget
from codir_jax.processes.user_error import UserError

_GPU = """\
gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: {0.shared_memory_per_core}
  threads_per_core_limit: 2048
  core_count: {0.core_count}
  fpus_per_core: {0.fpus_per_core}
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: {0.memory_bandwidth}
  l2_cache_size: {0.l2_cache_size}
  clock_rate_ghz: {0.clock_rate_ghz}
  device_memory_size: {0.device_memory_size}
  shared_memory_per_block_optin: {0.shared_memory_per_block_optin}
  cuda_compute_capability {{ major: {0.capability[0]} minor: {0.capability[1]} }}
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 8 patch: 0 }}
device_description_str: "{0.name}"
"""


def devices(on: Devices) -> list[jax.Device]:
    """The devices of a machine, for `sharding.mesh.make_mesh`; arrays cannot be put on them.

    `processes.environment.set_for_compilers` comes first, before JAX starts. Those of "cpu-8" are this process's own.

    Raises:
      UserError: a machine without a known compiler, no such slice, or the compiler is not installed.
    """
    target = on.machine.compiler
    if isinstance(target, TpuTarget):
        return _tpu_devices(on, target)
    if isinstance(target, GpuTarget):
        return _gpu_devices(on, target)
    if not on.is_cpu:
        raise UserError(f"--devices={on.name}: no compiler for it is known; take another machine, or leave --compile")
    found = jax.devices("cpu")
    if len(found) < on.count:
        raise UserError(
            f"{on.name} has more devices than this process, {len(found)}: set "
            f"XLA_FLAGS=--xla_force_host_platform_device_count={on.count} before JAX starts"
        )
    return found[: on.count]


def compiler_options(on: Devices) -> dict[str, Any]:
    """Of `jax.stages.Lowered.compile` for a machine that is not here: no choice of kernels by their time on a GPU."""
    return {"xla_gpu_autotune_level": "0"} if isinstance(on.machine.compiler, GpuTarget) else {}


def slice_shape(count: int, axes: int) -> tuple[int, ...]:
    """The near-cubic shape of a slice of 2^n devices: 8 of two axes are (2, 4), 32 of three (2, 4, 4)."""
    sizes = [1] * axes
    while count > 1:
        sizes[sizes.index(min(sizes))] *= 2
        count //= 2
    return tuple(sizes) if max(sizes) <= 2 else tuple(sorted(sizes))


def _tpu_devices(on: Devices, target: TpuTarget) -> list[jax.Device]:
    name = on.name.split("-")[0]
    if on.count > target.most or on.count & (on.count - 1):
        raise UserError(
            f"--devices={on.name}: a slice to compile for has 1, 2, 4, ... {target.most} devices, and this has "
            f"{on.count}" + (f" ({name} counts cores, two a device)" if on.machine.size_unit == "cores" else "")
        )
    _require("libtpu", "aot-tpu", on)
    shape = slice_shape(on.count, target.axes)
    # A host has 2 x 2 devices, or the whole of a slice of one host.
    host = shape if on.count <= on.machine.devices_per_host else (2, 2, 1)[: len(shape)]
    found = topologies.get_topology_desc(
        platform="tpu",
        topology_name=f"{name}:{'x'.join(map(str, shape))}",
        chips_per_host_bounds=[*host, *(1,) * (3 - len(host))],
    )
    return list(found.devices)


def _gpu_devices(on: Devices, target: GpuTarget) -> list[jax.Device]:
    _require("jax_plugins.xla_cuda13", "aot-gpu", on)
    found = topologies.get_topology_desc(
        platform="cuda",
        topology_name="",
        target_config=_GPU.format(target),
        topology=f"{on.hosts}x1x{on.count // on.hosts}",  # groups linked by NVLink, hosts of each, devices of each
    )
    return list(found.devices)


def _require(module: str, extra: str, on: Devices) -> None:
    if not is_installed(module):
        raise UserError(
            f"--devices={on.name}: its compiler is not installed; get it, best in an environment of its own: "
            f"pip install 'codir-jax[{extra}]'"
        )


def is_installed(module: str) -> bool:
    """Whether a module is here, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of a part of its name
        return False
