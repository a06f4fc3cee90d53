"""Why does it learn, or not? Gradients, time scales, and what a learner is doing now."""

from rtrl.analysis._cosine import cosine_by_layer as cosine_by_layer
from rtrl.analysis._diagnose import SHORTEST_WINDOW as SHORTEST_WINDOW
from rtrl.analysis._diagnose import diagnose as diagnose
from rtrl.analysis._diagnosis import Diagnosis as Diagnosis
from rtrl.analysis._findings import Finding as Finding
