"""Whatever stands in a configuration: a valid one, or one clear line."""

import time

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ppg_jax import ConfigError, load_run, resume
from ppg_jax.cli.main import main
from ppg_jax.config.config import Config, config_from_dict
from ppg_jax.config.fields import all_field_names
from ppg_jax.config.yaml_files import read_config, read_value

NAMES = all_field_names(Config)
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from(["dual", "none", "1e-3", "off", "auto", "CartPole-v1"])
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda x: st.lists(x, max_size=3) | st.dictionaries(scalars, x, max_size=3),
    max_leaves=6,
)
top = st.sampled_from([n for n in NAMES if "." not in n]) | st.text(max_size=12)
mappings = st.dictionaries(top | scalars, values, max_size=4)


def outcome(load, *args):
    """What was loaded, or None and what was said."""
    try:
        return load(*args), None
    except ConfigError as error:
        return None, str(error)


def check(fields):
    """A configuration that says the same when read back, or a message of one line."""
    config, said = outcome(config_from_dict, fields)
    if config is None:
        assert said
        assert "\n" not in said
    else:
        assert config_from_dict(config.to_dict()) == config
    return config


@settings(max_examples=400, deadline=None)
@given(mappings)
def test_any_mapping(fields):
    config = check(fields)
    if config is not None:  # nothing that was given is passed over
        given = {k: v for k, v in fields.items() if v is not None and v != {}}
        assert set(given) <= set(config.to_dict())


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([n for n in NAMES if n.count(".") < 2]), values)
def test_any_value_of_a_field(name, value):
    section, _, rest = name.partition(".")
    check({section: {rest: value} if rest else value})


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(NAMES), st.integers(0, 30), st.sampled_from("aeiou_s"))
def test_a_misspelt_key_is_never_passed_over(name, place, letter):
    section, dot, rest = name.rpartition(".")
    place = min(place, len(rest))
    wrong = rest[:place] + letter + rest[place:]
    if (section + dot + wrong) in NAMES:
        return
    fields = {section: {wrong: 1}} if section else {wrong: 1}
    with pytest.raises(ConfigError, match=wrong):
        config_from_dict(fields)


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=st.text(max_size=60) | mappings.map(lambda m: yaml.safe_dump(m, allow_unicode=True)))
def test_any_text_in_a_file(tmp_path, text):
    path = tmp_path / "some.yaml"
    path.write_text(text, encoding="utf-8", errors="replace")
    fields, said = outcome(read_config, path)
    if fields is None:
        assert said
        assert "\n" not in said
    else:
        check(fields)


@pytest.mark.parametrize(
    "text",
    [
        "seed: !!bool x",
        "seed: !!timestamp x",
        "seed: !!int x",
        "seed: 2001-99-99",
        "[" * 5000,
        "a: &a [*a]",
        "a: &a {<<: *a}",
        "a: &a [1, 1, 1]\n"
        + "".join(
            f"a{i}: &a{i} [" + ", ".join([f"*a{i - 1}" if i else "*a"] * 9) + "]\n"
            for i in range(12)
        ),
    ],
)
def test_what_yaml_itself_trips_over(tmp_path, text):
    path = tmp_path / "some.yaml"
    path.write_text(text)
    _, said = outcome(read_config, path)
    assert said
    assert "\n" not in said
    assert "some.yaml" in said


def test_many_keys_take_no_time_to_compare():
    text = "".join(f"k{i}: 1\n" for i in range(30_000))
    began = time.process_time()
    assert len(read_value(text)) == 30_000
    assert time.process_time() - began < 6  # where each is compared with each: 14


EVIL = "!!python/object/apply:os.system ['touch {file}']"


def test_a_malicious_folder_executes_nothing(tmp_path, capsys):
    run, mark = tmp_path / "run", tmp_path / "executed"
    run.mkdir()
    (run / "metrics.csv").write_text("seed,iteration,env_steps\n0,0,__import__('os')\n")
    for text in (EVIL, "env: " + EVIL, "env_kwargs: {x: " + EVIL + "}"):
        (run / "config.yaml").write_text(text.replace("{file}", str(mark)))
        for attempt in (load_run, resume):
            with pytest.raises(ConfigError, match="not valid YAML"):
                attempt(run)
        for command in (["eval"], ["plot"], ["render"], ["train", "--resume"], ["train"]):
            name = run / "config.yaml" if command == ["train"] else run
            assert main([*command, str(name)]) == 2
            assert capsys.readouterr().err.startswith("error: ")
    (run / "config.yaml").write_text("env: CartPole-v1\n")
    with pytest.raises(ConfigError, match="metrics.csv"):
        load_run(run)
    assert not mark.exists()
