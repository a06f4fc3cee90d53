"""Why does it learn, or not? Looking at gradients and timescales."""

from rtrl.analysis._cosine import cosine_by_layer as cosine_by_layer
