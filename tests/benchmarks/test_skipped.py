from pathlib import Path

from diffusion_guidance.evaluation import read_report
from scripts.benchmarks import skipped


def test_half_of_the_steps_are_half_evaluations_and_the_images_are_the_same(tmp_path):
    file, assets = tmp_path / "skipped.json", Path(__file__).parents[2] / "assets"
    skipped.BENCHMARK.main(["--rounds", "2", "--sizes", "tiny", "--json", str(file), "--assets", str(assets)])
    meta, rows = read_report(file)
    assert meta["rounds"] == 2
    names = ["shapes, batch 8", "StableDiffusion3, tiny", "Wan, tiny", "Flux, tiny"]
    assert [row["network"] for row in rows] == names
    assert all(row["nfe"] == row["steps"] * 0.75 and row["nfe_both"] == row["steps"] for row in rows)
    assert all(row["difference"] < 1e-5 and min(row["cfg_ms"], row["without_cfg_ms"]) > 0 for row in rows)
