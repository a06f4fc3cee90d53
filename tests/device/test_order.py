"""Where the state is overwritten in place, no old value is lost before it is read."""

from rtrl.device._graph import Graph
from rtrl.device._node import Axis
from rtrl.device._order import arrange, statements_of
from rtrl.device._statements import Guard, Output


def graph():
    g = Graph()
    a, b = (g.input(f"state.{name}", (4,), "float") for name in "ab")
    return g, a, b, g.const(2, "float")


def test_a_choice_of_the_old_value_leaves_the_statement_out():
    g, a, _, two = graph()
    go, new = g.input("reset", (), "bool"), g.map("mul", two, a)
    for choice, expected in ((("select", go, new, a), True), (("select", go, a, new), False)):
        _, groups = arrange([Output("a", g.map(*choice), a)])
        (group,) = groups
        assert group.guard == Guard(go, expected) and group.items[0].value is new


def test_an_old_value_is_read_before_it_is_overwritten():
    """b <- a + 1, a <- 2 a: whatever the order of the outputs, b comes first."""
    g, a, b, two = graph()
    outputs = [Output("a", g.map("mul", two, a), a),
               Output("b", g.map("add", a, g.const(1, "float")), b)]  # fmt: skip
    for given in (outputs, outputs[::-1]):
        program, groups = arrange(given)
        order = [program.home[s.target].name for s in statements_of(groups)]  # type: ignore
        assert order == ["b", "a"]


def test_what_is_exchanged_is_computed_before_any_is_written():
    g, a, b, two = graph()
    _, (group,) = arrange([Output("a", g.map("mul", two, b), a),
                           Output("b", g.map("add", a, two), b)])  # fmt: skip
    assert len(group.items) == 2 and group.items[0].partners == [group.items[1]]


def test_what_is_read_at_other_places_is_computed_elsewhere():
    """a <- 2 a, turned round: in place, the second half would read what the first has written."""
    g, a, _, two = graph()
    turned = g.view(a, (4,), [Axis(0, -1, 3)])
    program, groups = arrange([Output("a", g.map("mul", two, turned), a)])
    first, second = statements_of(groups)
    assert program.home == {} and second.reads[0].node is first.target
    assert [s.target for s in (second,)] == [Output("a", first.target, a)]  # type: ignore
