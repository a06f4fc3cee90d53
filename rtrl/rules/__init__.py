"""How does credit reach a parameter? Learning rules: a new one is a file, a line here, and a row in
`examples`.
"""

from rtrl.engine import Rule as Rule
from rtrl.rules._bptt import BPTT as BPTT
from rtrl.rules._eprop import EProp as EProp
from rtrl.rules._exact import ExactRTRL as ExactRTRL
from rtrl.rules._kfrtrl import KFRTRL as KFRTRL
from rtrl.rules._rtrl import RTRL as RTRL
from rtrl.rules._snap1 import SnAp1 as SnAp1
from rtrl.rules._snapn import SnApN as SnApN
from rtrl.rules._spatial import Spatial as Spatial
from rtrl.rules._tbptt import TBPTT as TBPTT
from rtrl.rules._truncated import Truncated as Truncated
from rtrl.rules._uoro import UORO as UORO


def examples() -> dict[str, Rule]:
    """List one rule of every kind, by the name of its class."""
    kinds = (
        RTRL(), SnAp1(), SnApN(2), EProp(), UORO(), KFRTRL(), TBPTT(4), Truncated(), Spatial(),
        BPTT(), ExactRTRL(),
    )  # fmt: skip
    return {type(rule).__name__: rule for rule in kinds}
