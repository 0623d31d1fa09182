"""Builds the generated parts of the site: tables of fields and configurations, formulas, API pages.

A page asks for a part by a comment on a line of its own: ``<!-- generated: NAME -->``. Formulas
are written as TeX and become MathML, so that no page needs a script or the network.
"""

import dataclasses
import html
import re
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import pydantic
from latex2mathml.converter import convert

import ppg_jax
from ppg_jax.config.fields import Settings

ROOT = Path(__file__).parent.parent

# Where the equations are. Everything else on the API pages is found through the package's face.
EQUATIONS = {
    "losses": "ppg_jax.functional.losses",
    "gae": "ppg_jax.functional.gae",
    "running_stats": "ppg_jax.functional.running_stats",
    "distributions": "ppg_jax.functional.distributions",
    "gradient_conflict": "ppg_jax.functional.gradient_conflict",
}

GROUPS = {
    "Environment": """env env_params env_kwargs observation_dtype observation_scale observation_key
        value_observation_key scale_actions policy_distribution num_levels first_level
        hide_components drop_observations episodes_per_task""",
    "Length, seeds and devices": """total_timesteps seed seeds strategy chunk_size devices
        devices_per_seed env_groups""",
    "Rollouts and phases": """num_envs num_steps n_pi e_pi e_v e_aux num_minibatches
        num_aux_minibatches aux_storage minibatch_by burn_in bptt_steps""",
    "Algorithm": """arch normalize_advantages normalize_rewards normalize_observations lr_schedule
        aux_lr_schedule gradient_conflict adapt_beta_clone""",
    "Sections": "network hparams",
}
"""The fields of ``Config`` by topic."""


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replaces the comments that ask for generated parts."""

    def part(found: re.Match[str]) -> str:
        name, _, argument = found[1].partition(" ")
        return PARTS[name](argument)

    return re.sub(r"^<!-- generated: (.+?) -->$", part, markdown, flags=re.MULTILINE)


def on_page_content(content: str, **_: Any) -> str:
    """Replaces formulas, which arithmatex has marked, by MathML; marks code that need not wrap."""

    def inline(found: re.Match[str]) -> str:
        return _mathml(found[1], "inline")

    def block(found: re.Match[str]) -> str:
        return f'<div class="formula">{_mathml(found[1], "block")}</div>'

    content = re.sub(r'<span class="arithmatex">\\\((.*?)\\\)</span>', inline, content, flags=re.S)
    content = re.sub(r'<div class="arithmatex">\\\[(.*?)\\\]</div>', block, content, flags=re.S)
    if "arithmatex" in content:
        raise ValueError("a formula was not converted")
    return re.sub(r"<code>([^<]{1,28})</code>", r'<code class="short">\1</code>', content)


def _mathml(tex: str, display: str) -> str:
    # Without the namespace: HTML needs none, and no address has to stand in the page.
    made = convert(html.unescape(tex).strip(), display=display)
    return made.replace(' xmlns="http://www.w3.org/1998/Math/MathML"', "")


def fields_of(kind: str) -> str:
    """Tables of a configuration class: ``Config``, ``NetworkConfig`` or ``Hyperparams``."""
    cls, prefix = {
        "Config": (ppg_jax.Config, ""),
        "NetworkConfig": (ppg_jax.NetworkConfig, "network."),
        "Hyperparams": (ppg_jax.Hyperparams, "hparams."),
    }[kind]
    rows = dict(_rows(cls, prefix))
    if kind != "Config":
        return _table(rows.values())
    grouped = [name for names in GROUPS.values() for name in names.split()]
    if sorted(grouped) != sorted(rows):
        raise ValueError(f"GROUPS in docs/hooks.py: {set(grouped) ^ set(rows)}")
    parts = []
    for title, names in GROUPS.items():
        parts.append(f"### {title}\n\n{_table(rows[name] for name in names.split())}")
    return "\n\n".join(parts)


def _rows(cls: type, prefix: str) -> Iterator[tuple[str, str]]:
    hints = typing.get_type_hints(cls, include_extras=True)
    for field in dataclasses.fields(cls):
        hint, default = hints[field.name], field.default
        infos = [x for x in (default, *getattr(hint, "__metadata__", ())) if _is_info(x)]
        meaning = next(info.description for info in infos if info.description)
        default = default.default if _is_info(default) else default
        name = prefix + field.name
        limits = _limits([*infos, *_metadata(hint)])
        kind = " ".join(filter(None, [_type(hint), limits]))
        cells = [f"<code>{name}</code>", kind, _default(default), html.escape(meaning)]
        if field.name in ("network", "hparams"):
            cells[1:3] = ["section", f'see <a href="#{field.name}-fields">below</a>']
        labels = ("", "Type: ", "Default: ", "")
        tds = (
            f'<td data-label="{label}">{cell}</td>'
            for label, cell in zip(labels, cells, strict=True)
        )
        yield field.name, f'<tr id="{name}">{"".join(tds)}</tr>'


def _table(rows: Any) -> str:
    head = "<th>Field</th><th>Type</th><th>Default</th><th>Meaning</th>"
    body = "\n".join(rows)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>"
    return f'<div class="fields">{table}</div>'


def _is_info(x: Any) -> bool:
    return isinstance(x, pydantic.fields.FieldInfo)


def _type(hint: Any) -> str:
    """A type in words: the choices, or a kind of value."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return " ".join(f"<code>{x}</code>" for x in args)
    if origin is Annotated:
        if args[0] is Any:
            return "mapping" if hint == Settings else "name or object"
        return _type(args[0])
    if origin is tuple:
        inner = _type(args[0])
        return f"list of {inner}" + "s" * inner.endswith("number")
    if origin in (typing.Union, types.UnionType):
        inner = [_type(x) for x in args if x is not type(None)]
        return " or ".join([*inner, "none"])
    names = {int: "whole number", float: "number", bool: "true or false"}
    return names.get(hint, "name or object")


def _metadata(hint: Any) -> Iterator[Any]:
    """What is annotated about a type, or about one of the types that it may be."""
    yield from getattr(hint, "__metadata__", ())
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        for one in typing.get_args(hint):
            yield from _metadata(one)


def _limits(infos: list[Any]) -> str:
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "&lt;"}
    bounds = [x for info in infos for x in (getattr(info, "metadata", None) or [info])]
    found = [
        f"{sign} {_number(getattr(bound, name))}"
        for bound in bounds
        for name, sign in signs.items()
        if getattr(bound, name, None) is not None
    ]
    return ", ".join(dict.fromkeys(found))


def _number(x: Any) -> str:
    named = {2**32: "2<sup>32</sup>", 2**31: "2<sup>31</sup>", 10**15: "10<sup>15</sup>"}
    return named.get(x, str(x))


def _default(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return f"<code>{str(value).lower()}</code>"
    if isinstance(value, int):
        return f"<code>{value:_}</code>" if value >= 100_000 else f"<code>{value}</code>"
    if isinstance(value, dict | tuple):
        return "empty" if not value else f"<code>{list(value)}</code>"
    return f"<code>{value}</code>"


def shipped_configurations(_: str) -> str:
    """A table of the files under ``configs/``."""
    folder, lines = ROOT / "configs", []
    for path in sorted(folder.rglob("*.yaml")):
        name = str(path.relative_to(folder).with_suffix(""))
        config = ppg_jax.load_config(name)
        memory = config.network.memory
        algorithm = f"{'PPG' if config.e_aux else 'PPO'}, <code>{config.arch}</code>"
        cells = [
            f"<code>{name}</code>",
            f"<code>{config.env}</code>",
            algorithm + (f", <code>{memory}</code>" if memory != "none" else ""),
            f"{config.total_timesteps:,}",
        ]
        lines.append("<tr>" + "".join(f"<td>{x}</td>" for x in cells) + "</tr>")
    head = "<th>Name</th><th>Environment</th><th>Algorithm</th><th>Steps of a seed</th>"
    body = "\n".join(lines)
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>"


def api(names: str) -> str:
    """Blocks of mkdocstrings for public names, ``Config`` or ``report.plot_curves``."""
    blocks = []
    for name in names.split():
        target: Any = ppg_jax
        for part in name.split("."):
            target = getattr(target, part)  # an AttributeError ends the build
        blocks.append(f"::: ppg_jax.{name}")
        if name in ("Config", "NetworkConfig", "Hyperparams"):
            options = ("show_signature", "separate_signature")
            blocks[-1] += "\n    options:" + "".join(f"\n      {x}: false" for x in options)
    return "\n\n".join(blocks)


def equations(name: str) -> str:
    """All of a module of equations."""
    options = ("show_root_heading", "show_root_toc_entry")
    return f"::: {EQUATIONS[name]}\n    options:" + "".join(f"\n      {x}: false" for x in options)


PARTS: dict[str, Callable[[str], str]] = {
    "fields": fields_of,
    "configurations": shipped_configurations,
    "api": api,
    "equations": equations,
}
