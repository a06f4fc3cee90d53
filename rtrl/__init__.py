"""Online training of recurrent networks: one timestep in, one exact learning step out."""

import importlib
import importlib.util
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rtrl._offered import *  # noqa: F403
else:
    # Loaded when first asked for: `rtrl --help` needs no JAX.

    def __getattr__(name: str) -> object:
        if not name.startswith("_") and importlib.util.find_spec(f"rtrl.{name}"):
            return importlib.import_module(f"rtrl.{name}")  # as `from rtrl import cells` would
        if name == "__all__" or not name.startswith("_"):
            offered = _all()
            if name in offered:
                return offered[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *_all()})

    def _all() -> dict[str, object]:
        """Load everything; from then on it is here as if it had been imported at once."""
        module = importlib.import_module("rtrl._offered")
        offered = {k: v for k, v in vars(module).items() if not k.startswith("_")}
        globals().update(offered, __all__=sorted(offered))
        return {**offered, "__all__": sorted(offered)}
