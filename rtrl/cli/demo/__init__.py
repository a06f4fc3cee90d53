"""What does it do on real data, at a glance? ``python -m rtrl.cli.demo``, or ``make demo``."""

from rtrl.cli.demo._digits import FLOORS as FLOORS
from rtrl.cli.demo._digits import digit_stream as digit_stream
from rtrl.cli.demo._digits import one_seed as one_seed
from rtrl.cli.demo._digits import regression as regression
from rtrl.cli.demo._laser import BASELINES as BASELINES
from rtrl.cli.demo._laser import HELD as HELD
from rtrl.cli.demo._laser import WINDOW as WINDOW
from rtrl.cli.demo._laser import running_nrmse as running_nrmse
from rtrl.cli.demo._laser import second_half_nrmse as second_half_nrmse
from rtrl.cli.demo._picture import collapse as collapse
from rtrl.cli.demo._run import main as main
