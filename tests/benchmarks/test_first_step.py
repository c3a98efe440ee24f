from pathlib import Path

from diffusion_guidance.attachment.families import registry
from diffusion_guidance.evaluation import read_report
from scripts.benchmarks import first_step


def test_each_cost_of_a_run_is_a_number_of_milliseconds(tmp_path):
    file, assets, before = tmp_path / "first.json", Path(__file__).parents[2] / "assets", list(registry._FAMILIES)
    first_step.BENCHMARK.main(["--rounds", "2", "--json", str(file), "--assets", str(assets)])
    _, rows = read_report(file)
    assert [row["network"] for row in rows][:2] == ["shapes, batch 8", "StableDiffusion3, tiny"] and len(rows) == 5
    for row in rows:
        assert 0 < row["hooks_ms"] < row["infer_ms"] <= row["infer_median_ms"] < 1000
        assert row["check_ms"] < row["infer_ms"]
    assert before and before == registry._FAMILIES


def test_within_the_block_nothing_is_registered():
    with first_step.no_families():
        assert not registry._FAMILIES
    assert registry._FAMILIES
