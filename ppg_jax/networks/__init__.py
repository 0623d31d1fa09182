"""Networks: the only package that knows flax modules."""

from ppg_jax.networks.agent import Agent, AgentOutput, make_agent
from ppg_jax.networks.branch import AUX_VALUE, POLICY, VALUE
from ppg_jax.networks.live import LiveComponents

__all__ = ["AUX_VALUE", "POLICY", "VALUE", "Agent", "AgentOutput", "LiveComponents", "make_agent"]
