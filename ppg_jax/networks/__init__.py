"""Networks: the only package that knows flax modules."""

from ppg_jax.networks.agent import (
    AUX_VALUE,
    POLICY,
    VALUE,
    Agent,
    AgentOutput,
    make_agent,
)

__all__ = ["AUX_VALUE", "POLICY", "VALUE", "Agent", "AgentOutput", "make_agent"]
