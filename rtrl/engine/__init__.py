"""How do traces, errors and gradients move?

A learning step has three phases (`chunk_gradient`): the network runs forward, `recur` advancing
every cell; the loss's error travels back through the layers; each layer combines its own trace with
its own error, as its `Rule` says. Cells are taken apart by `Modules`, and what the engine may rely
on is read off their code by `structure`.
"""

from rtrl.engine._carry import Carry as Carry
from rtrl.engine._carry import is_carry as is_carry
from rtrl.engine._carry import kept_behind as kept_behind
from rtrl.engine._carry import kept_in_place as kept_in_place
from rtrl.engine._carry import placement_of as placement_of
from rtrl.engine._chunk import ChunkResult as ChunkResult
from rtrl.engine._chunk import Loss as Loss
from rtrl.engine._chunk import chunk_gradient as chunk_gradient
from rtrl.engine._chunk import over_chunks as over_chunks
from rtrl.engine._contract import check_cell as check_cell
from rtrl.engine._data import Chunk as Chunk
from rtrl.engine._data import Past as Past
from rtrl.engine._init_carry import init_carry as init_carry
from rtrl.engine._jaxpr import read as read
from rtrl.engine._jaxpr import scan_layout as scan_layout
from rtrl.engine._later import Later as Later
from rtrl.engine._later import computed as computed
from rtrl.engine._later import later as later
from rtrl.engine._later import rarely_times as rarely_times
from rtrl.engine._matrices import apply_transposed as apply_transposed
from rtrl.engine._matrices import choose_zero as choose_zero
from rtrl.engine._modules import Modules as Modules
from rtrl.engine._narrow import Narrow as Narrow
from rtrl.engine._narrow import can_narrow as can_narrow
from rtrl.engine._narrow import is_narrow as is_narrow
from rtrl.engine._narrow import narrow as narrow
from rtrl.engine._narrow import widen as widen
from rtrl.engine._narrow_trace import check_trace_dtype as check_trace_dtype
from rtrl.engine._narrow_trace import narrowed as narrowed
from rtrl.engine._narrow_trace import require_kept as require_kept
from rtrl.engine._narrow_trace import widened as widened
from rtrl.engine._observe import Observations as Observations
from rtrl.engine._observe import observe as observe
from rtrl.engine._one_kernel import joining_kernels as joining_kernels
from rtrl.engine._one_kernel import one_kernel as one_kernel
from rtrl.engine._partials import Partials as Partials
from rtrl.engine._placement import Placement as Placement
from rtrl.engine._placement import check_placement as check_placement
from rtrl.engine._placement import of_carry as of_carry
from rtrl.engine._placement import of_cell as of_cell
from rtrl.engine._placement import pin as pin
from rtrl.engine._range import Range as Range
from rtrl.engine._range import Ranges as Ranges
from rtrl.engine._record import record as record
from rtrl.engine._recur import recur as recur
from rtrl.engine._rule import LocalRule as LocalRule
from rtrl.engine._rule import Pull as Pull
from rtrl.engine._rule import Rule as Rule
from rtrl.engine._rule import Run as Run
from rtrl.engine._rule import check_rule as check_rule
from rtrl.engine._structure import structure as structure
from rtrl.engine._trace import Gradients as Gradients
from rtrl.engine._trace import Trace as Trace
from rtrl.engine._trace import advance_once as advance_once
from rtrl.engine._trace import with_trace as with_trace
from rtrl.engine._trace import with_window as with_window
from rtrl.engine._trace import without_trace as without_trace
from rtrl.engine._varying import axes_of as axes_of
from rtrl.engine._varying import max_over as max_over
from rtrl.engine._varying import sum_over as sum_over
from rtrl.engine._varying import vary as vary
from rtrl.engine._xla import after as after
from rtrl.engine._xla import all_finite as all_finite
from rtrl.engine._xla import branch as branch
from rtrl.engine._xla import global_norm as global_norm
from rtrl.engine._xla import seldom as seldom
from rtrl.engine._xla import total as total
from rtrl.engine._xla import total_square as total_square
