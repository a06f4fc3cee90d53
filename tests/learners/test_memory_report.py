"""What `rtrl.memory_report` promises is what a learner then holds."""

import jax
import jax.numpy as jnp
import optax
import pytest
from cases import network

import rtrl


def held(tree):
    """Bytes of the arrays of a tree."""
    return sum(a.nbytes for a in jax.tree.leaves(tree) if hasattr(a, "nbytes"))


@pytest.fixture(scope="module")
def reports():
    """RTRL and BPTT of one network, in chunks of 2 and of 32 timesteps."""
    model = network("LRU", depth=1)
    return {
        (type(rule).__name__, chunk): rtrl.memory_report(model, rule, 3, chunk)
        for rule in (rtrl.RTRL(), rtrl.BPTT())
        for chunk in (2, 32)
    }


@pytest.mark.parametrize("batch_size", [None, 3])
def test_carried_bytes_are_those_of_a_state(batch_size):
    model, rule, optimizer = network("LRU", depth=1), rtrl.RTRL(), optax.adam(1e-2)
    report = rtrl.memory_report(model, rule, batch_size, 2, optimizer=optimizer)
    learner = rtrl.OnlineLearner(lambda p, y: jnp.sum(p - y), optimizer, rule=rule)
    state = learner.init(model, batch_size)
    assert report.states == held([carry.state for carry in state.carry]) > 0
    assert report.traces == held([carry.trace for carry in state.carry]) > 0
    assert report.optimizer == held(state.opt_state) > 0
    assert report.parameters == held(state.model) > 0
    assert report.total == sum(report)


def test_only_bptt_grows_with_the_chunk(reports):
    carried = [(r.states, r.traces) for (rule, _), r in reports.items() if rule == "RTRL"]
    assert carried[0] == carried[1]
    assert reports["BPTT", 2].traces == reports["BPTT", 32].traces == 0
    assert reports["BPTT", 32].temporaries > 4 * reports["BPTT", 2].temporaries
    assert reports["BPTT", 32].data > reports["BPTT", 2].data


def test_a_report_reads_as_a_table_with_units(reports):
    lines = str(reports["RTRL", 2]).splitlines()
    assert [line.split()[0] for line in lines] == [*rtrl.MemoryReport._fields, "total"]
    assert all(line.split()[2] in ("B", "KiB", "MiB", "GiB", "TiB") for line in lines)


@pytest.mark.parametrize(
    ("argument", "options"),
    [
        ("chunk", {"chunk": 0}),
        ("chunk", {"chunk": 2.5}),
        ("batch_size", {"batch_size": 0}),
        ("batch_size", {"batch_size": 1.5}),
        ("rule", {"rule": "RTRL"}),
        ("rule", {"rule": rtrl.RTRL}),
        ("optimizer", {"optimizer": "adam"}),
        ("loss", {"loss": 1.0}),
        ("tree", {"model": {"a": jnp.ones(2)}}),
    ],
)
def test_bad_arguments_are_named(argument, options):
    arguments = {"model": network("LRU", depth=1), "rule": rtrl.RTRL(), **options}
    with pytest.raises(ValueError, match=f"^{argument}: "):
        rtrl.memory_report(**arguments)
