"""What is compared with Rejax. Plain data: Rejax's environment has no ppg_jax."""

CASES = {
    "breakout": {
        "env": "Breakout-MinAtar", "num_envs": 64, "num_minibatches": 8, "iterations": (8, 4)
    },
    "cartpole": {
        "env": "CartPole-v1", "num_envs": 64, "num_minibatches": 8, "iterations": (16, 8)
    },
    "cartpole_4_envs": {
        "env": "CartPole-v1", "num_envs": 4, "num_minibatches": 4, "iterations": (256, 64)
    },
}  # fmt: skip
"""What is compared; ``iterations`` of one call, with one seed and with several."""
COMMON = {
    "num_steps": 128, "epochs": 4, "learning_rate": 1e-3, "max_grad_norm": 0.5, "gamma": 0.99
}  # fmt: skip
