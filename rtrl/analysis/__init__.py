"""Why does it learn, or not? Gradients, time scales, and what a learner is doing now."""

from rtrl.analysis._advise import Advice as Advice
from rtrl.analysis._advise import advise as advise
from rtrl.analysis._cosine import cosine_by_layer as cosine_by_layer
from rtrl.analysis._diagnose import SHORTEST_WINDOW as SHORTEST_WINDOW
from rtrl.analysis._diagnose import diagnose as diagnose
from rtrl.analysis._diagnosis import Diagnosis as Diagnosis
from rtrl.analysis._energy import autocorrelation as autocorrelation
from rtrl.analysis._energy import draw_curse as draw_curse
from rtrl.analysis._energy import draw_landscape as draw_landscape
from rtrl.analysis._energy import draw_remedies as draw_remedies
from rtrl.analysis._energy import gated_energies as gated_energies
from rtrl.analysis._energy import lru_energies as lru_energies
from rtrl.analysis._energy import sensitivity_energy as sensitivity_energy
from rtrl.analysis._energy import state_energy as state_energy
from rtrl.analysis._energy import teacher_loss as teacher_loss
from rtrl.analysis._findings import Finding as Finding
from rtrl.analysis._width import Sampled as Sampled
from rtrl.analysis._width import critical_profile as critical_profile
from rtrl.analysis._width import draw_energy as draw_energy
from rtrl.analysis._width import ginibre_energy as ginibre_energy
from rtrl.analysis._width import log_ginibre_energy as log_ginibre_energy
from rtrl.analysis._width import ring_energy as ring_energy
from rtrl.analysis._width import sampled_energy as sampled_energy
