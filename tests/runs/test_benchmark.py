"""``bench``: what it measures, what it keeps when it is stopped, and what it refuses."""

import json
import signal
import types

import pytest
from rich.console import Console

import ppg_jax
from ppg_jax import Config, ConfigError
from ppg_jax.execution import Plan, Speed, TooLargeError
from ppg_jax.execution.layout import Layout
from ppg_jax.runs import benchmark

CONFIG = Config(
    num_envs=4, num_steps=8, n_pi=2, num_minibatches=2, arch="shared", e_aux=0,
    network={"hidden_sizes": (8,)},
)  # fmt: skip


def speed(config, seconds=(0.5, 0.25, 1.0)):
    layout = Layout("map", 1, 1, config.seeds)
    return Speed(Plan(config, layout), 2.0, seconds, 64 * config.seeds, 3 * 2**20, 2**20, None)


@pytest.fixture
def measured(monkeypatch):
    """Stands for the measurement: the numbers of seeds for which it was called."""
    seen = []

    def measure(config, repeats, *, note):
        seen.append(config.seeds)
        note("compiling")
        if config.seeds == 13:
            raise TooLargeError("memory: 13 replicas do not fit (they need 5 TiB)")
        if config.seeds == 99:
            signal.raise_signal(signal.SIGTERM)
        return speed(config)

    monkeypatch.setattr(benchmark, "measure_speed", measure)
    return seen


def test_it_measures_and_writes(tmp_path, capsys):
    """For real: two seeds, and their JSON."""
    result = ppg_jax.bench(CONFIG, [2], repeats=2, out=tmp_path / "bench.json")
    (record,) = result
    assert (record.seeds, record.strategy, record.problem) == (2, "map", "")
    assert len(record.run_seconds) == 2
    assert record.env_steps == 2 * 2 * 4 * 8
    assert record.slowest <= record.env_steps_per_second <= record.fastest
    assert record.compile_seconds > 0.1
    assert record.compiled_bytes > 1000
    kept = json.loads((tmp_path / "bench.json").read_text())
    assert kept["finished"]
    assert kept["device"]["platform"] == "cpu"
    assert kept["config"]["num_steps"] == 8
    assert kept["results"] == json.loads(json.dumps([record.to_dict()]))
    assert [path.name for path in tmp_path.iterdir()] == ["bench.json"]
    shown = capsys.readouterr().out
    assert "PPO shared on CartPole-v1, a phase of 64 steps of each seed, 2 times" in shown
    assert record.line() in shown
    assert "a CPU reports none" in shown


def test_the_numbers_of_a_record():
    record = benchmark._record(4, speed(CONFIG.replace(seeds=4)))
    assert (record.slowest, record.env_steps_per_second, record.fastest) == (256, 512, 1024)
    even = benchmark._record(4, speed(CONFIG.replace(seeds=4), (0.5, 0.25)))
    assert even.env_steps_per_second == (512 + 1024) / 2
    cells = list(record.cells().values())
    assert cells == ["4", "map", "2.0", "512", "256 to 1,024", "3.0 MiB", "-"]


def test_what_does_not_fit_is_a_line(measured, capsys):
    result = ppg_jax.bench(CONFIG, [1, 13, 2])
    assert measured == [1, 13, 2]
    assert [record.problem[:6] for record in result] == ["", "memory", ""]
    assert result.records[1].env_steps_per_second is None
    shown = capsys.readouterr().out
    assert "    13  memory: 13 replicas do not fit (they need 5 TiB)\n" in shown
    assert repr(result).splitlines()[1:] == [
        line for line in shown.splitlines()[1:] if not line.startswith("compiled:")
    ]
    frame = result.to_dataframe()
    assert frame["seeds"].tolist() == [1, 13, 2]
    assert frame["env_steps_per_second"][0] == 128
    assert result._repr_html_().count("<tr>") == 4


def test_a_signal_keeps_what_there_is(measured, tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    result = ppg_jax.bench(CONFIG, [1, 2, 99, 3], out=tmp_path / "b.json", progress=False)
    assert not result.finished
    assert measured == [1, 2, 99]
    kept = json.loads((tmp_path / "b.json").read_text())
    assert not kept["finished"]
    assert [row["seeds"] for row in kept["results"]] == [1, 2]
    assert "stopped" in repr(result)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_file_that_cannot_be_written_loses_nothing(measured, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(benchmark, "write_new", full)
    result = ppg_jax.bench(CONFIG, [1, 2], out=tmp_path / "b.json", progress=False)
    assert len(result) == 2
    assert len(result.problems) == 1
    assert "b.json cannot be written" in result.problems[0]


def test_a_terminal_shows_what_is_going_on(measured, tmp_path):
    with (tmp_path / "out").open("w") as file:
        console = Console(file=file, width=60, force_terminal=True)
        ppg_jax.bench(CONFIG, [1, 2], console=console)
    text = (tmp_path / "out").read_text()
    assert "2 seeds: compiling" in text
    assert "\u2026" not in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"seeds": [1, 0]}, "seeds: 0 is invalid; it should be a whole number, at least 1"),
        ({"seeds": []}, "seeds: "),
        ({"seeds": [True]}, "seeds: True"),
        ({"repeats": 0}, "repeats: 0 is invalid"),
        ({"out": "nowhere/bench.json"}, "out: the folder nowhere does not exist"),
    ],
)
def test_mistakes(arguments, words, measured, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=words):
        ppg_jax.bench(CONFIG, **arguments)
    assert not measured


def test_it_writes_over_nothing_and_not_into_runs(measured, tmp_path):
    (tmp_path / "there.json").write_text("mine")
    with pytest.raises(ConfigError, match="there.json exists already; name a new file"):
        ppg_jax.bench(CONFIG, out=tmp_path / "there.json")
    assert (tmp_path / "there.json").read_text() == "mine"
    (tmp_path / "config.yaml").write_text("{}")
    with pytest.raises(ConfigError, match="is the folder of a run; name a file elsewhere"):
        ppg_jax.bench(CONFIG, out=tmp_path / "new.json")


def test_the_machine_s_memory_counts(monkeypatch):
    from ppg_jax.execution import speed as module

    monkeypatch.setattr(module, "machine_bytes", lambda: 2**20)
    timer = types.SimpleNamespace(layout=Layout("map", 1, 1, 2), compiled_bytes=2**21)
    with pytest.raises(TooLargeError, match=r"they need 2.0 MiB, this machine has 1.0 MiB"):
        module._check_fits(timer)
    timer.compiled_bytes = 2**20
    module._check_fits(timer)
