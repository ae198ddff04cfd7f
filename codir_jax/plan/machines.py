"""Published peaks of machines, and what `--devices=v5e-256` means."""

import dataclasses
import re

from codir_jax.processes.user_error import UserError


@dataclasses.dataclass(frozen=True)
class Machine:
    """One device as its maker publishes it. Rates are per second; None where nothing is published.

    Attributes:
      platform: "tpu", "gpu" or "cpu".
      flops: name of a dtype -> most floating-point operations of matrix products. "float32" is what jax does by default
        with float32 operands: one bfloat16 pass on TPU, TensorFloat-32 on NVIDIA. "highest" is what it does where a
        product asks for all of float32: six bfloat16 passes on TPU, no tensor cores on NVIDIA.
      memory_bytes: of the device. memory_bandwidth: bytes.
      link_bandwidth: bytes that a device sends to its neighbours in one direction, within a slice or host.
      network_bandwidth: the same between hosts; None where a slice is one network.
      devices_per_host: of the usual host.
      size_unit: what the number in --devices counts: devices, or cores of which a device has two.
      source: page of the figures.
      compiler: what XLA is told of a device that is not here.
    """

    platform: str
    flops: dict[str, float] | None
    memory_bytes: float | None
    memory_bandwidth: float | None
    link_bandwidth: float | None
    network_bandwidth: float | None
    devices_per_host: int
    size_unit: str
    source: str
    compiler: "TpuTarget | GpuTarget | None" = None


@dataclasses.dataclass(frozen=True)
class TpuTarget:
    """A TPU as its compiler knows it.

    Attributes:
      axes: of the torus or mesh that links the devices. most: devices of the largest slice.
      clock: cycles per second: the published peak over the products that its matrix units make in a cycle.
    """

    axes: int
    most: int
    clock: float


@dataclasses.dataclass(frozen=True)
class GpuTarget:
    """A GPU as its compiler knows it: fields of XLA's GpuTargetConfigProto that differ between those listed here."""

    name: str
    capability: tuple[int, int]
    core_count: int
    fpus_per_core: int
    shared_memory_per_core: int
    shared_memory_per_block_optin: int
    l2_cache_size: int
    clock_rate_ghz: float
    memory_bandwidth: int
    device_memory_size: int


def _tpu(tflops, memory, bandwidth, link, hosts, unit, source, compiler) -> Machine:
    flops = {"bfloat16": tflops * 1e12, "float32": tflops * 1e12, "highest": tflops * 1e12 / 6}
    return Machine("tpu", flops, memory, bandwidth * 1e9, link * 1e9, None, hosts, unit, source, compiler)


def _gpu(bfloat16, tf32, float32, memory, bandwidth, link, network, source, compiler) -> Machine:
    flops = {"bfloat16": bfloat16 * 1e12, "float32": tf32 * 1e12, "highest": float32 * 1e12}
    rates = memory * 1e9, bandwidth * 1e9, link * 1e9, network * 1e9
    return Machine("gpu", flops, *rates, 8, "devices", source, compiler)


# Devices of XLA's own list (xla/backends/gpu/target_config/specs, Apache-2.0).
_A100 = GpuTarget("NVIDIA A100-SXM4-80GB", (8, 0), 108, 64, 167936, 166912, 41943040, 1.41, 2039040000000, 85100068864)
_H100 = GpuTarget("NVIDIA H100 80GB HBM3", (9, 0), 132, 128, 233472, 232448, 52428800, 1.98, 3352320000000, 84942979072)
_H200 = dataclasses.replace(
    _H100, name="NVIDIA H200 141GB HBM3e", memory_bandwidth=4800000000000, device_memory_size=151397597184
)


# Devices of a run, more than any slice or cluster has.
MOST = 1_000_000

# TPU: the pages' "bidirectional inter-chip interconnect bandwidth (per chip)" is halved; for v4, the all-reduce
# bandwidth of a pod, 1.1 PB/s, over its 4096 chips. GPU: SXM boards, dense figures, half of those "with sparsity";
# 989.4 and 494.7 are of the white paper "H100 Tensor Core GPU Architecture", and H200 has the same chip. Links are half
# of NVLink's total (600 and 900 GB/s); networks are one 400 Gb/s (A100: 200 Gb/s) adapter a GPU, as in DGX systems.
# v4 has no target: its compiler makes two devices of a chip, which a run sees as one.
MACHINES = {
    "v4": _tpu(275, 32 * 2**30, 1200, 268, 4, "cores", "https://cloud.google.com/tpu/docs/v4", None),
    "v5e": _tpu(197, 16e9, 819, 200, 8, "devices", "https://cloud.google.com/tpu/docs/v5e", TpuTarget(2, 256, 1.5e9)),
    "v5p": _tpu(459, 95e9, 2765, 600, 4, "cores", "https://cloud.google.com/tpu/docs/v5p", TpuTarget(3, 4096, 1.75e9)),
    "v6e": _tpu(918, 32e9, 1638, 400, 8, "devices", "https://cloud.google.com/tpu/docs/v6e", TpuTarget(2, 256, 1.75e9)),
    "a100": _gpu(312, 156, 19.5, 80, 2039, 300, 25, "https://www.nvidia.com/en-us/data-center/a100/", _A100),
    "h100": _gpu(989.4, 494.7, 67, 80, 3350, 450, 50, "https://www.nvidia.com/en-us/data-center/h100/", _H100),
    "h200": _gpu(989.4, 494.7, 67, 141, 4800, 450, 50, "https://www.nvidia.com/en-us/data-center/h200/", _H200),
    "cpu": Machine("cpu", None, None, None, None, None, 8, "devices", "nothing is published; see `codir bench`"),
}


@dataclasses.dataclass(frozen=True)
class Devices:
    """`count` devices of a machine on `hosts` hosts."""

    name: str
    machine: Machine
    count: int
    hosts: int

    @property
    def is_cpu(self) -> bool:
        """Whether they are fake ones, of which nothing is published."""
        return self.machine.platform == "cpu"

    @property
    def gathers_by_sums(self) -> bool:
        """Whether XLA gathers small arrays by an all-reduce: on a torus of three axes, from 4 x 4 x 4 on."""
        target = self.machine.compiler
        return isinstance(target, TpuTarget) and target.axes == 3 and self.count >= 64

    @property
    def bandwidth(self) -> float | None:
        """Bytes per second in one direction over the slowest link that a collective of all devices uses."""
        if self.hosts > 1 and self.machine.network_bandwidth:
            return self.machine.network_bandwidth
        return self.machine.link_bandwidth


def parse(text: str, hosts: int = 0) -> Devices:
    """The devices of a text such as "v5e-256", "v4-32" (16 chips: v4 and v5p count cores) or "h100-8".

    Args:
      text: MACHINE-NUMBER. hosts: 0 is as many as the usual host holds.

    Raises:
      UserError: no such machine, no number, or hosts that do not share the devices evenly.
    """
    match = re.fullmatch(r"([a-z0-9]+)-(\d+)", text)
    if not match or match.group(1) not in MACHINES or not match.group(2).strip("0"):
        raise UserError(
            f"--devices={text!r}: expected MACHINE-NUMBER such as v5e-256 or h100-8, with MACHINE one of "
            f"{', '.join(MACHINES)}"
        )
    if len(match.group(2)) > len(str(MOST)) or int(match.group(2)) > MOST:
        raise UserError(f"--devices={text!r}: expected at most {MOST:,} devices")
    name, number = match.group(1), int(match.group(2))
    machine = MACHINES[name]
    if machine.size_unit == "cores" and number % 2:
        raise UserError(f"--devices={text}: {name} counts cores, two a device; give an even number")
    count = number // 2 if machine.size_unit == "cores" else number
    hosts = hosts or max(-(-count // machine.devices_per_host), 1)
    if hosts < 1 or count % hosts:
        raise UserError(f"{count} devices cannot be shared evenly by {hosts} hosts; give another --hosts")
    return Devices(text, machine, count, hosts)
