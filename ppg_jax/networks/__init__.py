"""Networks: encoders, memories, heads, and the agent that an architecture makes of them.

The only place that knows flax modules. Nothing here knows an environment or a loss.
"""

from ppg_jax.networks.agent import Agent, AgentOutput, Unroll, make_agent
from ppg_jax.networks.network import AUX_VALUE, POLICY, POLICY_NET, VALUE

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
