"""What the package offers is loaded when it is first asked for, and then is all there."""

import subprocess
import sys

import pytest
import surface

import rtrl

pytestmark = pytest.mark.core

PROGRAM = """
import sys, rtrl
assert not {{"jax", "equinox", "numpy"}} & set(sys.modules), "loaded at once"
{first}
offered = set(rtrl.__all__)
assert offered <= set(dir(rtrl)) and offered <= set(vars(rtrl)), "not all there"
there = {{}}
exec("from rtrl import *", there)
assert offered <= set(there)
print(len(offered))
"""


@pytest.mark.parametrize(
    "first",
    [
        "from rtrl import OnlineLearner, cells",
        "rtrl.evaluate.NRMSE",
        "import rtrl.engine as engine; assert rtrl.init_carry is engine.init_carry",
        "dir(rtrl)",
    ],
)
def test_whatever_is_asked_for_first_all_is_there(first):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(first=first)], capture_output=True, text=True
    )
    assert done.stdout.strip() == str(len(surface.exports(rtrl))), done.stderr


def test_what_is_not_there_is_not_made_up():
    with pytest.raises(AttributeError, match="has no attribute 'kalmann'"):
        rtrl.kalmann  # type: ignore[attr-defined] # noqa: B018
    with pytest.raises(ImportError):
        from rtrl import kalmann  # type: ignore # noqa: F401
    assert not hasattr(rtrl, "_nothing")
