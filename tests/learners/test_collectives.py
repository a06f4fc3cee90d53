"""What travels, read off programs that begin an exchange and end it later."""

import pytest

from rtrl.learners._collectives import collectives_in

PROGRAM = """ENTRY %main (a: f32[8]) -> f32[8] {
  %x = (f32[8]{0}, c64[4]{0}) all-reduce-start(%a, %b), to_apply=%add, metadata={op_name="sums"}
  %y = (f32[2,3]{1,0}, f32[4,3]{1,0}) all-gather-start(%c), dimensions={0}
  %z = (f32[5]{0}, f32[5]{0}, u32[], u32[]) collective-permute-start(%d)
  %w = f32[7]{0} all-reduce(%e), to_apply=%add
"""


@pytest.mark.parametrize(
    ("place", "kind", "shapes", "size"),
    [
        (0, "all-reduce", ("f32[8]", "c64[4]"), 64),
        (1, "all-gather", ("f32[4,3]",), 48),
        (2, "collective-permute", ("f32[5]",), 20),
        (3, "all-reduce", ("f32[7]",), 28),
    ],
)
def test_an_exchange_is_what_a_device_ends_up_with(place, kind, shapes, size):
    found = collectives_in(PROGRAM)
    assert len(found) == 4
    assert found[place][:3] == (kind, shapes, size)
    assert found[0].source == "sums" and not found[place].repeated
