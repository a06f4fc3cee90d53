"""What is a neuron? Recurrent cells: a new one is a new file and a line here."""

from rtrl.cells import _surrogate as surrogate  # noqa: F401
from rtrl.cells._base import Cell as Cell
from rtrl.cells._base import as_tuple as as_tuple
from rtrl.cells._base import cells_of as cells_of
from rtrl.cells._base import is_cell as is_cell
from rtrl.cells._base import is_dense as is_dense
from rtrl.cells._block_diagonal import BlockDiagonal as BlockDiagonal
from rtrl.cells._complex_diagonal import ComplexDiagonal as ComplexDiagonal
from rtrl.cells._cuba_lif import CubaLIF as CubaLIF
from rtrl.cells._dense_rnn import GRU as GRU
from rtrl.cells._dense_rnn import LSTM as LSTM
from rtrl.cells._dense_rnn import LinearRNN as LinearRNN
from rtrl.cells._dense_rnn import VanillaRNN as VanillaRNN
from rtrl.cells._elementwise_rnn import ElementwiseGRU as ElementwiseGRU
from rtrl.cells._elementwise_rnn import ElementwiseLSTM as ElementwiseLSTM
from rtrl.cells._elementwise_rnn import ElementwiseRNN as ElementwiseRNN
from rtrl.cells._hgrn import HGRN as HGRN
from rtrl.cells._leaky_integrator import LeakyIntegrator as LeakyIntegrator
from rtrl.cells._lif import LIF as LIF
from rtrl.cells._lif import AdaptiveLIF as AdaptiveLIF
from rtrl.cells._lru import LRU as LRU
from rtrl.cells._min_rnn import MinGRU as MinGRU
from rtrl.cells._min_rnn import MinLSTM as MinLSTM
from rtrl.cells._resonate_and_fire import ResonateAndFire as ResonateAndFire
from rtrl.cells._rg_lru import RGLRU as RGLRU
from rtrl.cells._rtu import RTU as RTU
from rtrl.cells._s4d import S4D as S4D
from rtrl.cells._s5 import S5 as S5
from rtrl.cells._s6 import S6 as S6
from rtrl.cells._state_tracking import ComplexGate as ComplexGate
from rtrl.cells._state_tracking import SignedGate as SignedGate
from rtrl.cells._update_gates import ConstGate as ConstGate
from rtrl.cells._update_gates import DiagGate as DiagGate
from rtrl.cells._update_gates import SharedGate as SharedGate
