"""From options to a network and a learner."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import equinox as eqx
import jax

import rtrl
from rtrl.cli._data import TOKENS, Data, longest
from rtrl.cli._errors import UsageError, refuse
from rtrl.cli._names import FILE, cell_names, find_cell, find_rule, rule_name
from rtrl.engine import check_trace_dtype

OVERLAP = 16  # timesteps that a chunk of as many or more is run again with
WARMUP = 100  # timesteps of a stream that set the scale before anything is learned


@dataclass(frozen=True)
class Setup:
    """What a run is made of. None: the default for the task, filled in by `complete`.

    It is kept in every state file as JSON.
    """

    task: str
    seed: int | None = None
    cell: str | None = None
    rule: str | None = None
    chunk: int | None = None
    depth: int | None = None
    hidden: int | None = None
    width: int | None = None
    optimizer: str | None = None
    lr: float | None = None
    batch: int | None = None
    horizon: int | None = None
    warmup: int | None = None
    target: list[str] | None = None
    settings: dict[str, Any] | None = None
    learner: str | None = None
    overlap: int | None = None
    goal: str | None = None
    probabilities: bool | None = None
    trace_dtype: str | None = None


FORECASTER, NETWORK, CLASSIFIER = "forecaster", "network", "classifier"
OF_EXPERTS = (FORECASTER, CLASSIFIER)

#: Options that say how the network is and learns: with any of them it is alone.
OF_NETWORK = (
    "cell", "rule", "chunk", "overlap", "depth", "hidden", "width", "optimizer", "lr", "warmup",
    "trace_dtype",
)  # fmt: skip

#: The option of the command line that sets a field, where it is not the field's own name.
OPTIONS = {
    "settings": "--set", "task": "TASK", "goal": "--task", "trace_dtype": "--trace-dtype",
}  # fmt: skip


def complete(setup: Setup, data: Data) -> Setup:
    """Fill in the defaults: a forecaster for files; else a learner that suits the task.

    That is a fast, second-order one for streams, Adam for the others.
    """
    setup = replace(setup, learner=_learner(setup, data))
    if setup.learner == FORECASTER:
        return replace(setup, seed=_or(setup.seed, 0), horizon=data.horizon)
    rule = rule_name(setup.rule or "RTRL")
    try:
        check_trace_dtype(setup.trace_dtype or "float32", find_rule(rule))
    except ValueError as error:
        raise UsageError(str(error).replace("trace_dtype", "--trace-dtype", 1)) from error
    whole = find_rule(rule).whole_sequence
    stream = data.kind == "stream"
    can_kalman = stream and data.out_size == 1 and not whole and setup.chunk in (None, 1)
    optimizer = setup.optimizer
    if optimizer is None:
        optimizer = "kalman" if can_kalman and setup.lr is None else "adam"
    if setup.warmup is not None and not stream:
        raise UsageError(f"--warmup: {data.task.name} is no stream, so it has none.")
    if optimizer not in ("kalman", "adam"):
        refuse("--optimizer", "kalman or adam", repr(optimizer))
    if optimizer == "kalman" and not can_kalman:
        raise UsageError(
            "--optimizer: kalman needs a stream with one target, --chunk 1 and a rule that takes "
            "single timesteps; use adam."
        )
    if optimizer == "kalman" and setup.lr is not None:
        raise UsageError("--lr: kalman has no learning rate; leave it out, or use adam.")
    chunk = setup.chunk
    if chunk is None:
        chunk = 1 if optimizer == "kalman" else None if whole and not stream else 16
    small = optimizer == "kalman"
    depth = _or(setup.depth, 1 if small else 2)
    overlap = setup.overlap
    if overlap is None:
        overlap = _overlap(rule, chunk, depth, data)
    names = {name.lower(): name for name in cell_names()}
    cell = setup.cell or "LRU"
    return replace(
        setup,
        task=setup.task,
        seed=_or(setup.seed, 0),
        cell=names.get(cell.lower(), cell),
        rule=rule,
        chunk=chunk,
        overlap=overlap,
        depth=depth,
        hidden=_or(setup.hidden, 64),
        width=_or(setup.width, 64),
        optimizer=optimizer,
        lr=None if small else _or(setup.lr, 3e-3),
        batch=None if stream else _or(setup.batch, 16),
        horizon=data.horizon if stream else None,
        warmup=_or(setup.warmup, WARMUP) if stream else None,
    )


def _overlap(rule: str, chunk: int | None, depth: int, data: Data) -> int:
    """As long as the chunk, at most `OVERLAP`, where it gives credit that chunks alone do not.

    That is credit through the memory of layers above, across the beginning of a chunk.
    """
    if chunk in (None, 1) or depth == 1 or not find_rule(rule).reaches_back():
        return 0
    return min(chunk, OVERLAP) if data.kind == "stream" or longest(data) > chunk else 0


def _learner(setup: Setup, data: Data) -> str:
    given = [name for name in OF_NETWORK if getattr(setup, name) is not None]
    if setup.learner is None:
        return NETWORK if given or data.task is not FILE else FORECASTER
    if setup.learner not in (FORECASTER, NETWORK):
        refuse("--learner", "forecaster or network", repr(setup.learner))
    if setup.learner == FORECASTER:
        if data.kind != "stream":
            raise UsageError(f"--learner: {data.task.name} is no stream; use network.")
        if given:
            option = given[0].replace("_", "-")
            raise UsageError(f"--{option}: is of a network alone; use --learner network.")
    return setup.learner


def build_forecaster(setup: Setup, in_size: int, out_size: int, own: Any) -> rtrl.Forecaster:
    """The forecaster of a file: ``own`` are the places of the targets among its inputs."""
    own = own if setup.horizon else None
    return rtrl.Forecaster(in_size, out_size, delay=setup.horizon or 0, own=own)


def build_classifier(setup: Setup, in_size: int, out_size: int, own: Any) -> rtrl.Classifier:
    """The classifier of a file: ``own`` are the places of the class among its inputs.

    A class is an indicator for every value, yes and no are one number.
    """
    own = own if own and setup.horizon else ()
    return rtrl.Classifier(in_size, max(2, out_size), delay=setup.horizon or 0, own=own)


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value


def build_model(setup: Setup, in_size: int | None, out_size: int) -> rtrl.SequenceModel:
    """The network: the paper's, or for the Kalman optimizer a leaner one without norms."""
    model_key, encoder_key = jax.random.split(jax.random.key(setup.seed or 0))
    new: Any = find_cell(setup.cell or "LRU")
    hidden, width = setup.hidden or 64, setup.width or 64
    lean: dict[str, Any] = {"norm": None, "glu": "half1"} if setup.optimizer == "kalman" else {}
    encoder = eqx.nn.Embedding(TOKENS, width, key=encoder_key) if in_size is None else None
    try:
        return rtrl.SequenceModel(
            in_size, out_size, width, setup.depth or 1,
            lambda size, key: new(size, hidden, key=key),
            encoder=encoder, key=model_key, **lean,
        )  # fmt: skip
    except (ValueError, TypeError) as error:
        raise UsageError(f"--cell, --width, --depth or --hidden: {error}") from error


def build_learner(
    setup: Setup, data_kind: str, loss: Any, model: Any, scaled: tuple[bool, ...] = ()
) -> Any:
    """A learner; for a stream one that standardises online all inputs that are not ``scaled``."""
    rule = find_rule(setup.rule or "RTRL")
    if setup.optimizer == "kalman":
        optimizer = rtrl.kalman()
    else:
        optimizer = rtrl.paper_optimizer(model, setup.lr or 3e-3)
    # On a stream also with Adam: measured through this very network (bench/faults.py --divergence).
    guard = rtrl.Guard(divergence=100.0) if data_kind == "stream" else rtrl.Guard()
    kept: Any = setup.trace_dtype or "float32"
    learner = rtrl.OnlineLearner(
        loss, optimizer, rule=rule, overlap=setup.overlap or 0, guard=guard, trace_dtype=kept
    )
    if data_kind != "stream":
        return learner
    inputs = [not s for s in scaled] if any(scaled) else True
    return rtrl.Standardized(learner, inputs=inputs, warmup=_or(setup.warmup, WARMUP))


@contextmanager
def naming_rule(setup: Setup) -> Iterator[None]:
    """A cell and a rule that don't go together are a mistake of the user, in the rule's words."""
    try:
        yield
    except ValueError as error:
        raise UsageError(f"--cell {setup.cell} and --rule {setup.rule}: {error}") from error


def label(setup: Setup) -> str:
    """The rule as it acts, such as ``RTRL, K=16``; or that it is a forecaster or a classifier."""
    if setup.learner in OF_EXPERTS:
        return setup.learner
    name = find_rule(setup.rule or "RTRL").label(setup.chunk)
    has_chunk = setup.chunk is None or f"({setup.chunk})" in name
    name = name if has_chunk else f"{name}, K={setup.chunk}"
    return f"{name}, overlap {setup.overlap}" if setup.overlap else name


def as_dict(setup: Setup) -> dict[str, Any]:
    return asdict(setup)


def same_run(saved: dict[str, Any], given: Setup) -> Setup:
    """The saved setup; refuse an option that was given and is not that of the saved run."""
    known = Setup(**saved)
    for field, value in asdict(given).items():
        was = saved.get(field)  # unknown to the version that saved it
        if field in ("cell", "rule") and isinstance(value, str) and isinstance(was, str):
            value, was = value.lower(), was.lower()
        if value is not None and value != was:
            option = OPTIONS.get(field, "--" + field)
            raise UsageError(
                f"{option}: the run to resume has {was!r}, got {value!r}; leave it out, "
                "or start a new run with another --out."
            )
    return known
