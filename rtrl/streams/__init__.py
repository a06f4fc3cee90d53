"""How is a live stream learned and measured? In the data's own units, prediction before target."""

from rtrl.streams import classes as classes
from rtrl.streams import evaluate as evaluate
from rtrl.streams import experts as experts
from rtrl.streams._classifier import Classifier as Classifier
from rtrl.streams._classifier_state import Classification as Classification
from rtrl.streams._classifier_state import ClassifierState as ClassifierState
from rtrl.streams._default_experts import default_experts as default_experts
from rtrl.streams._forecaster import Forecaster as Forecaster
from rtrl.streams._forecaster_state import Forecast as Forecast
from rtrl.streams._forecaster_state import ForecasterState as ForecasterState
from rtrl.streams._moments import Moments as Moments
from rtrl.streams._standardized import Standardized as Standardized
from rtrl.streams._standardized import StandardizedState as StandardizedState
from rtrl.streams.many import ManyOutput as ManyOutput
from rtrl.streams.many import ManyStreams as ManyStreams
