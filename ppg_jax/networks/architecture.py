"""The table of architectures: which networks there are, and where gradients stop."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A row of the table of architectures.

    Attributes:
      value_net: whether the value function has its own network.
      detach_policy_phase: whether the value head's gradient stops before the shared encoder in the
        policy phase.
      detach_aux_phase: the same for the auxiliary phase.
    """

    value_net: bool
    detach_policy_phase: bool = False
    detach_aux_phase: bool = False


ARCHITECTURES = {
    "dual": Architecture(value_net=True),
    "separate": Architecture(value_net=True),
    "detach": Architecture(value_net=False, detach_policy_phase=True, detach_aux_phase=True),
    "single": Architecture(value_net=False, detach_policy_phase=True),
    "shared": Architecture(value_net=False),
}
