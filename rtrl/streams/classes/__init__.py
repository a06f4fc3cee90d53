"""Which class comes next? Experts for a `rtrl.Classifier`: a new one is a file and a line here."""

from rtrl.streams.classes._chain import Chain as Chain
from rtrl.streams.classes._features import LAGS as LAGS
from rtrl.streams.classes._features import ClassFeatures as ClassFeatures
from rtrl.streams.classes._features import ClassSizes as ClassSizes
from rtrl.streams.classes._frequencies import Frequencies as Frequencies
from rtrl.streams.classes._logistic import Logistic as Logistic
from rtrl.streams.classes._network import ClassNetwork as ClassNetwork
