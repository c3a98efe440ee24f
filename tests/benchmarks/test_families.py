import pytest

from diffusion_guidance.evaluation import read_report
from scripts.benchmarks import families as benchmark_families


def test_rows(tmp_path, capsys):
    file = tmp_path / "families.json"
    benchmark_families.BENCHMARK.main(
        ["--json", str(file), "--size", "tiny", "--steps", "2", "--rounds", "2", "--device", "cpu"]
    )
    meta, rows = read_report(file)
    assert (meta["size"], meta["rounds"], meta["gpu"]) == ("tiny", 2, None) and "torch" in meta["versions"]
    assert [row["family"] for row in rows] == ["StableDiffusion3", "StableDiffusionXL", "QwenImage", "Wan"]
    for row in rows:
        assert row["difference_to_modular"] < 1e-5  # the two ways compute the same
        low, high = row["time_ratio_quartiles"]
        assert 0 < low <= row["time_ratio"] <= high
    assert "QwenImage: attached / plain" in capsys.readouterr().out


def test_bad_settings(tmp_path):
    with pytest.raises(SystemExit):
        benchmark_families.BENCHMARK.main(["--json", str(tmp_path / "x.json"), "--rounds", "1"])
    with pytest.raises(SystemExit):
        benchmark_families.BENCHMARK.main(["--json", str(tmp_path / "x.json"), "--families", "Nothing"])
