import json
from pathlib import Path

import pytest


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "scripts")
    import benchmark_families

    return benchmark_families


def test_ratios_belong_together(benchmark):
    assert benchmark.ratio([2.0, 30.0, 5.0], [1.0, 10.0, 5.0])["median"] == 2.0


def test_every_round_runs_every_way(benchmark):
    calls = []
    seconds = benchmark.interleaved({name: lambda name=name: calls.append(name) for name in "abc"}, 3, "cpu")
    assert "".join(calls) == "abcbcacab"
    assert all(len(times) == 3 and min(times) >= 0 for times in seconds.values())


def test_rows(benchmark, tmp_path, capsys):
    file = tmp_path / "families.json"
    benchmark.main(["--json", str(file), "--size", "tiny", "--steps", "2", "--rounds", "2", "--device", "cpu"])
    rows = json.loads(file.read_text())["rows"]
    assert [row["family"] for row in rows] == list(benchmark.BENCHES)
    for row in rows:
        assert row["attached_against_modular_difference"] < 1e-5  # the two ways compute the same
        assert row["attached_over_plain"]["median"] > 0
    assert "QwenImage: attached / plain" in capsys.readouterr().out


def test_bad_settings(benchmark, tmp_path):
    with pytest.raises(SystemExit, match="at least"):
        benchmark.main(["--json", str(tmp_path / "x.json"), "--rounds", "1"])
    with pytest.raises(SystemExit):
        benchmark.main(["--json", str(tmp_path / "x.json"), "--families", "Nothing"])
