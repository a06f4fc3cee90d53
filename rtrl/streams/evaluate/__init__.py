"""Prequential evaluation: predict, then learn, with metrics in the data's own units."""

from rtrl.streams.evaluate._metrics import MAE as MAE
from rtrl.streams.evaluate._metrics import NRMSE as NRMSE
from rtrl.streams.evaluate._metrics import Accuracy as Accuracy
from rtrl.streams.evaluate._metrics import CrossEntropy as CrossEntropy
from rtrl.streams.evaluate._metrics import Metric as Metric
from rtrl.streams.evaluate._prequential import Report as Report
from rtrl.streams.evaluate._prequential import prequential as prequential
