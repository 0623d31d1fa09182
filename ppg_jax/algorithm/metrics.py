"""What a run measures."""

from ppg_jax.config import Config


def phase_metrics(config: Config) -> tuple[str, ...]:
    """What is measured once a phase; NaN in the iterations that no auxiliary phase follows."""
    if not config.e_aux:
        return ()
    names = ["clone_kl", "aux_value_loss", "aux_phase_value_loss", "aux_grad_norm"]
    names += ["value_loss_before_aux", "value_loss_after_aux"]
    names += ["aux_grad_cosine"] * (config.gradient_conflict != "off")
    return (*names, *["beta_clone"] * config.adapt_beta_clone)


def metric_names(config: Config) -> set[str]:
    """All that a run measures."""
    names = {"env_steps", "episode_return", "episode_length", "num_episodes", "explained_variance"}
    names |= {"policy_loss", "entropy", "clip_fraction", "approx_kl", "policy_grad_norm"}
    names |= {"value_loss", "value_grad_norm", *phase_metrics(config)}
    one_encoder = config.arch == "shared" and config.e_pi == config.e_v
    return names | ({"grad_cosine"} if one_encoder and config.gradient_conflict != "off" else set())
