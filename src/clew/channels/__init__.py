"""Channels: the named cells a graph's state is made of, each with its own rule for taking a superstep's writes."""

from clew.channels.any_value import AnyValue
from clew.channels.base import BaseChannel
from clew.channels.binop import BinaryOperatorAggregate
from clew.channels.delta import DeltaChannel
from clew.channels.ephemeral_value import EphemeralValue
from clew.channels.last_value import LastValue, LastValueAfterFinish
from clew.channels.named_barrier_value import NamedBarrierValue, NamedBarrierValueAfterFinish
from clew.channels.topic import Topic
from clew.channels.untracked_value import UntrackedValue

__all__ = (
    "AnyValue",
    "BaseChannel",
    "BinaryOperatorAggregate",
    "DeltaChannel",
    "EphemeralValue",
    "LastValue",
    "LastValueAfterFinish",
    "NamedBarrierValue",
    "NamedBarrierValueAfterFinish",
    "Topic",
    "UntrackedValue",
)
