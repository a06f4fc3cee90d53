"""How does a learner leave Python? As C99 for a device, and its state as bytes, there and back.

The jaxpr of a learning step becomes a graph of real arrays (``_walk``, a row for every primitive);
the graph becomes statements (``_store``, ``_statements``), put in an order in which the state can
be overwritten in place (``_order``), in memory that values share (``_memory``), and printed as
loops (``_blocks``, ``_expressions``).
"""

from rtrl.device._export import export as export
from rtrl.device._nir import from_nir as from_nir
from rtrl.device._nir import to_nir as to_nir
from rtrl.device._pack import pack as pack
from rtrl.device._pack import unpack as unpack
