"""How is a live stream learned and measured? In the data's own units, prediction before target."""

from rtrl.streams import evaluate as evaluate
from rtrl.streams._standardized import Standardized as Standardized
from rtrl.streams._standardized import StandardizedState as StandardizedState
