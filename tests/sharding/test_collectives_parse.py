"""Collectives are read from HLO text: by hand-written lines, and from a program whose traffic is known."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from codir_jax.sharding import collectives
from codir_jax.sharding.collectives import parse


def _one(line):
    (found,) = parse(f"HloModule jit_step, num_partitions=8\n  {line}\n")
    return found


@pytest.mark.parametrize(
    ("line", "kind", "num_bytes"),
    [
        ("%all-reduce.5 = f32[128,64]{1,0} all-reduce(%x), channel_id=1, to_apply=%add", "all-reduce", 4 * 128 * 64),
        ("ROOT %ag = bf16[8,16]{1,0:T(8,128)(2,1)} all-gather(%x), dimensions={0}", "all-gather", 2 * 8 * 16),
        ("all-reduce = (f32[10]{0}, /*index=1*/s8[3]{0}) all-reduce(%a, %b)", "all-reduce", 43),
        ("%p = u32[] collective-permute(%x), source_target_pairs={{0,1}}", "collective-permute", 4),
        ("%t = (f32[2,4]{1,0}, f32[2,4]{1,0}) all-to-all(%a, %b)", "all-to-all", 2 * 32),
        # The larger side of a reduce-scatter is what goes in: its result times the size of a group.
        ("%r = f32[4]{0} reduce-scatter(%x), replica_groups={{0,1},{2,3}}, to_apply=%a", "reduce-scatter", 2 * 16),
        ("%r = f32[4]{0} reduce-scatter(%x), replica_groups=[2,4]<=[8], to_apply=%a", "reduce-scatter", 4 * 16),
        ("%r = f32[4]{0} reduce-scatter(%x), replica_groups={}, to_apply=%a", "reduce-scatter", 8 * 16),
        (
            "%r = f32[4]{0} reduce-scatter(%x), replica_groups=mesh['a'=4,'b'=2] {'b'}, dimensions={0}",
            "reduce-scatter",
            2 * 16,
        ),
        (
            "%r = f32[4]{0} reduce-scatter(%x), replica_groups=mesh['a'=4,'b'=2] {'a':(1)2,'b'}, dimensions={0}",
            "reduce-scatter",
            4 * 16,
        ),
        (
            "%r = f32[4]{0} reduce-scatter(%x), replica_groups=mesh['a'=4,'b'=2], device_ids=([2,4]T(1,0)) {'a'}",
            "reduce-scatter",
            4 * 16,
        ),
        # Asynchronous pairs: operands come before results; only an all-reduce returns results alone.
        ("%s = (f32[2]{0}, f32[16]{0}) all-gather-start(%x), dimensions={0}", "all-gather", 64),
        ("%s = ((f32[2]{0}, s8[1]{0}), (f32[16]{0}, s8[8]{0})) all-gather-start(%x, %y)", "all-gather", 72),
        ("%s = (f32[5]{0}, f32[5]{0}, u32[], u32[]) collective-permute-start(%x)", "collective-permute", 20),
        ("%s = f32[5]{0} all-reduce-start(%x), to_apply=%add", "all-reduce", 20),
        ("%s = (f32[5]{0}, s32[3]{0}) all-reduce-start(%x, %y), to_apply=%add", "all-reduce", 32),
        # From jax 0.12 on with its operands.
        ("%s = ((f32[5]{0}), f32[5]{0}) all-reduce-start(%x), to_apply=%add", "all-reduce", 20),
        ("%s = ((f32[5], s32[3]), (f32[5], s32[3])) all-reduce-start(%x, %y), to_apply=%add", "all-reduce", 32),
    ],
)
def test_a_line_gives_its_kind_and_bytes(line, kind, num_bytes):
    found = _one(line)
    assert (found.kind, found.num_bytes) == (kind, num_bytes)


@pytest.mark.parametrize(
    "line",
    [
        "%d = f32[16]{0} all-gather-done(%s)",
        '%f = f32[2]{0} fusion(%a), metadata={op_name="x = f32[9] all-reduce(y"}',
        "%c = f32[2]{0} add(%all-reduce.1, %b)",
    ],
)
def test_other_lines_are_no_collectives(line):
    assert parse(line) == []


def test_what_is_repeated_in_every_fusion_that_it_overlaps_is_sent_once():
    text = """HloModule jit_step, num_partitions=8

%async_start (p.0: f32[2,16]) -> f32[16,16] {
  %p.0 = f32[2,16]{1,0} parameter(0)
  ROOT %all-gather.1 = f32[16,16]{1,0} all-gather(%p.0), channel_id=7, replica_groups=[1,8]<=[8], dimensions={0}
}

%overlapped (p.1: f32[2,16], p.2: f32[4]) -> (f32[16,16], f32[4]) {
  %p.1 = f32[2,16]{1,0} parameter(0)
  %p.2 = f32[4]{0} parameter(1)
  %all-gather.2 = f32[16,16]{1,0} all-gather(%p.1), channel_id=7, replica_groups=[1,8]<=[8], dimensions={0}
  %sum = f32[4]{0} add(%p.2, %p.2)
  ROOT %t = (f32[16,16]{1,0}, f32[4]{0}) tuple(%all-gather.2, %sum)
}

ENTRY %main (p.3: f32[4]) -> f32[4] {
  %p.3 = f32[4]{0} parameter(0)
  %all-gather.3 = f32[16,16]{1,0} all-gather(%x), channel_id=8, replica_groups=[1,8]<=[8], dimensions={0}
  %all-reduce.1 = f32[4]{0} all-reduce(%p.3), channel_id=70, replica_groups=[1,8]<=[8], to_apply=%add
  ROOT %all-reduce.2 = f32[4]{0} all-reduce(%all-reduce.1), replica_groups={}, to_apply=%add
}
"""
    assert [(one.kind, one.num_bytes) for one in parse(text)] == [
        ("all-gather", 4 * 256),
        ("all-gather", 4 * 256),
        ("all-reduce", 16),
        ("all-reduce", 16),
    ]


def test_a_sharded_sum_sends_its_result_once():
    mesh = jax.make_mesh((8,), ("data",))
    split, whole = NamedSharding(mesh, PartitionSpec("data")), NamedSharding(mesh, PartitionSpec())
    x = jax.ShapeDtypeStruct((16, 32), jnp.float32, sharding=split)
    total = jax.jit(lambda x: x.sum(0), out_shardings=whole).lower(x).compile()
    assert [(one.kind, one.num_bytes) for one in parse(total.as_text())] == [("all-reduce", 32 * 4)]
    copy = jax.jit(lambda x: 2 * x, out_shardings=whole).lower(x).compile()
    assert [(one.kind, one.shapes) for one in parse(copy.as_text())] == [("all-gather", (("f32", (16, 32)),))]


def test_totals_and_arrays_add_up():
    text = "%a = (f32[2]{0}, f32[3]{0}) all-reduce(%x, %y)\n%b = f32[3]{0} all-reduce(%x)\n"
    totals = collectives.totals(parse(text))
    assert totals["all-reduce"] == {"count": 2, "bytes": 32}
    assert totals["all-gather"] == {"count": 0, "bytes": 0}
    assert collectives.arrays(parse(text)) == [("all-reduce", f"f32[{n}]") for n in (2, 3, 3)]


def test_an_unknown_dtype_is_told():
    with pytest.raises(ValueError, match="unknown dtype 'odd'"):
        parse("%a = odd[2]{0} all-reduce(%x)")


def test_a_ring_sends_a_sum_twice_and_everything_else_once():
    sent = {kind: collectives.sent_bytes(kind, 800, 8) for kind in collectives.KINDS}
    assert sent == {
        "all-reduce": 2 * 700,
        "all-gather": 700,
        "reduce-scatter": 700,
        "all-to-all": 700,
        "collective-permute": 800,
    }
    assert _one("%a = f32[200]{0} all-reduce(%x), replica_groups={{0,1},{2,3}}").sent_bytes == 2 * 400


SLICED = """HloModule jit_step, num_partitions=8

%all-reduce-scatter.7 (input_0: f32[128,16], input_1: f32[8,8]) -> (f32[32,16], f32[2,8]) {
  %all-reduce.76 = (f32[128,16], f32[8,8]) all-reduce(%i, %j), channel_id=1, replica_groups={{0,1,2,3},{4,5,6,7}}
  ROOT %t = (f32[32,16]{1,0}, f32[2,8]{1,0}) tuple(%dynamic-slice.1, %dynamic-slice.2)
}

%all-reduce-scatter.8 (input_2: f32[128,16], input_3: f32[8,8]) -> (f32[32,16], f32[2,8]) {
  %all-reduce.79 = (f32[128,16], f32[8,8]) all-reduce(%i, %j), channel_id=1, replica_groups={{0,1,2,3},{4,5,6,7}}
  ROOT %u = (f32[32,16]{1,0}, f32[2,8]{1,0}) tuple(%dynamic-slice.3, %dynamic-slice.4)
}

ENTRY %main (p.3: f32[4]) -> f32[4] {
  %fusion.1 = (f32[32,16]{1,0}, f32[2,8]{1,0}) fusion(%v, %w), kind=kCustom, calls=%all-reduce-scatter.8
  %fusion = (f32[32,16]{1,0}, f32[2,8]{1,0}) fusion(%x, %y), kind=kCustom, calls=%all-reduce-scatter.7
  %all-reduce.77 = f32[32,16]{1,0} all-reduce(%x), channel_id=1, replica_groups={{0,4},{1,5},{2,6},{3,7}}
  %all-reduce.78 = f32[32,16]{1,0} all-reduce(%y), channel_id=1, replica_groups={{0,4},{1,5},{2,6},{3,7}}
}
"""


def test_a_sum_of_which_a_tpu_keeps_a_slice_is_scattered_and_a_shared_channel_joins_nothing():
    again, scattered, *summed = parse(SLICED)
    assert again == scattered  # of another layer with the same shapes
    assert (scattered.kind, scattered.group) == ("reduce-scatter", 4)
    assert scattered.shapes == (("f32", (32, 16)), ("f32", (2, 8)))
    assert scattered.num_bytes == 4 * (128 * 16 + 8 * 8)
    assert [(one.kind, one.num_bytes, one.group) for one in summed] == [("all-reduce", 2048, 2)] * 2
