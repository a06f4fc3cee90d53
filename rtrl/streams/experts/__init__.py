"""What may be expected of the next value? Experts, each a simple way to tell."""

from rtrl.streams.experts._echo import Echo as Echo
from rtrl.streams.experts._expert import Expert as Expert
from rtrl.streams.experts._features import LAGS as LAGS
from rtrl.streams.experts._features import Features as Features
from rtrl.streams.experts._features import Sizes as Sizes
from rtrl.streams.experts._lags import LONG as LONG
from rtrl.streams.experts._lags import Lags as Lags
from rtrl.streams.experts._lags import Member as Member
from rtrl.streams.experts._learned import Learned as Learned
from rtrl.streams.experts._network import Network as Network
from rtrl.streams.experts._network import half_square as half_square
from rtrl.streams.experts._network import small_network as small_network
from rtrl.streams.experts._others import Others as Others
from rtrl.streams.experts._others import mixer as mixer
from rtrl.streams.experts._plain import Plain as Plain
from rtrl.streams.experts._rls import RLS as RLS
from rtrl.streams.experts._seasonal import Seasonal as Seasonal
