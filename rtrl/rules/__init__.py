"""Learning rules. A new rule is a new file and a line here."""

from rtrl.rules._base import Rule as Rule
from rtrl.rules._bptt import BPTT as BPTT
from rtrl.rules._exact import ExactRTRL as ExactRTRL
from rtrl.rules._rtrl import RTRL as RTRL
from rtrl.rules._spatial import Spatial as Spatial
from rtrl.rules._truncated import Truncated as Truncated


def examples() -> dict[str, Rule]:
    """One rule of every kind, by the name of its class."""
    kinds = (RTRL(), Truncated(), Spatial(), BPTT(), ExactRTRL())
    return {type(rule).__name__: rule for rule in kinds}
