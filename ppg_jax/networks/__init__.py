"""Networks: encoders, memories, heads, and the agent that combines them.

This is the only folder that imports flax modules. It never imports an environment or a loss.
"""

from ppg_jax.networks.agent import Agent, AgentOutput, make_agent
from ppg_jax.networks.network import AUX_VALUE, POLICY, POLICY_NET, VALUE
from ppg_jax.networks.trunks import Unroll

__all__ = [
    "AUX_VALUE",
    "POLICY",
    "POLICY_NET",
    "VALUE",
    "Agent",
    "AgentOutput",
    "Unroll",
    "make_agent",
]
