"""Names that help texts list, written down: help comes without loading what they name."""

#: What `rtrl.cells` and `rtrl.rules` export; a test holds them against these.
CELLS = (
    "BlockDiagonal", "ComplexDiagonal", "CubaLIF", "GRU", "LSTM", "LinearRNN", "VanillaRNN",
    "ElementwiseGRU", "ElementwiseLSTM", "ElementwiseRNN", "HGRN", "LeakyIntegrator", "LIF",
    "AdaptiveLIF", "LRU", "MinGRU", "MinLSTM", "ResonateAndFire", "RGLRU", "RTU", "S4D", "S5",
    "S6", "ComplexGate", "SignedGate", "ConstGate", "DiagGate", "SharedGate",
)  # fmt: skip
RULES = (
    "BPTT", "EProp", "ExactRTRL", "KFRTRL", "RTRL", "SnAp1", "SnApN:n", "Spatial", "TBPTT:k",
    "Truncated", "UORO",
)  # fmt: skip
