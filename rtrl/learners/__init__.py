"""What is a learning step? Data in, a prediction and new parameters out; saved, measured, resumed.

A step is the same for one timestep, for a chunk, and for an item of a live stream whose target
comes late; the last is here too, as it is a way of calling the first two.
"""

from rtrl.learners._checkpoint import load as load
from rtrl.learners._checkpoint import save as save
from rtrl.learners._collectives import Collective as Collective
from rtrl.learners._collectives import collectives as collectives
from rtrl.learners._collectives import compiled_text as compiled_text
from rtrl.learners._feed import own_samples as own_samples
from rtrl.learners._filter import Filter as Filter
from rtrl.learners._guard import Guard as Guard
from rtrl.learners._guard import GuardState as GuardState
from rtrl.learners._guard import bounds_of as bounds_of
from rtrl.learners._hidden import Ahead as Ahead
from rtrl.learners._hidden import example_input as example_input
from rtrl.learners._hidden import hidden as hidden
from rtrl.learners._hidden import look_ahead as look_ahead
from rtrl.learners._hidden import prediction_like as prediction_like
from rtrl.learners._inputs import check_xs as check_xs
from rtrl.learners._inputs import prepare as prepare
from rtrl.learners._interrupt import uninterrupted as uninterrupted
from rtrl.learners._jit import ONCE as ONCE
from rtrl.learners._jit import QUICK as QUICK
from rtrl.learners._jit import Bound as Bound
from rtrl.learners._jit import Jitted as Jitted
from rtrl.learners._kalman import kalman as kalman
from rtrl.learners._kept_programs import keep_program as keep_program
from rtrl.learners._learner import OnlineLearner as OnlineLearner
from rtrl.learners._live import Live as Live
from rtrl.learners._memory import MemoryReport as MemoryReport
from rtrl.learners._memory import memory_report as memory_report
from rtrl.learners._narrow_moments import NarrowMoments as NarrowMoments
from rtrl.learners._narrow_moments import narrow_moments as narrow_moments
from rtrl.learners._open_stream import open_stream as open_stream
from rtrl.learners._open_stream import resume_or_open as resume_or_open
from rtrl.learners._paper_optimizer import paper_optimizer as paper_optimizer
from rtrl.learners._processes import LostProcessError as LostProcessError
from rtrl.learners._replace_file import replacing as replacing
from rtrl.learners._restart import restarted as restarted
from rtrl.learners._sequence_gradient import sequence_gradient as sequence_gradient
from rtrl.learners._shard import shard as shard
from rtrl.learners._state import LearnerState as LearnerState
from rtrl.learners._state import NonFiniteError as NonFiniteError
from rtrl.learners._state import StepOutput as StepOutput
from rtrl.learners._state import batch_size_of as batch_size_of
from rtrl.learners._step import advance_many as advance_many
from rtrl.learners._step import advance_unrenewed as advance_unrenewed
from rtrl.learners._stream import close_stream as close_stream
from rtrl.learners._stream import each as each
from rtrl.learners._stream import push as push
from rtrl.learners._stream_item import naming_item as naming_item
from rtrl.learners._stream_item import read_item as read_item
from rtrl.learners._stream_item import unpack as unpack
from rtrl.learners._stream_state import StreamState as StreamState
