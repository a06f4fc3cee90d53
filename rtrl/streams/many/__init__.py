"""Many streams, one model: they come, fall silent and return when they like."""

from rtrl.streams.many._items import ManyOutput as ManyOutput
from rtrl.streams.many._many_streams import ManyStreams as ManyStreams
