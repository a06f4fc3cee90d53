"""What stands around the cells? Encoder, readouts, norms and skips, and the way errors take."""

from rtrl.networks._block import Block as Block
from rtrl.networks._feedback import random_feedback as random_feedback
from rtrl.networks._readout import GLU as GLU
from rtrl.networks._readout import Readout as Readout
from rtrl.networks._sequence_model import SequenceModel as SequenceModel
from rtrl.networks._sequential import Sequential as Sequential
