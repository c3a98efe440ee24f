from pathlib import Path

from diffusion_guidance import attach
from diffusion_guidance.attachment.families import registry
from diffusion_guidance.evaluation import read_report
from scripts.benchmarks import overhead
from scripts.benchmarks.random_pipelines import BENCHES, SIZES


def test_the_overhead_is_a_report(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(overhead, "STEPS", 2)
    file = tmp_path / "overhead.json"
    overhead.BENCHMARK.main(
        ["--rounds", "2", "--json", str(file), "--assets", str(Path(__file__).parents[2] / "assets")]
    )
    meta, rows = read_report(file)
    assert meta["rounds"] == 2 and "threads" in meta and {"command", "commit", "versions"} <= set(meta)
    cases = [("shapes", 1), ("shapes", 8), ("StableDiffusion3, tiny", 1), ("Wan, tiny", 1)]
    expected = [(network, batch, callback) for network, batch in cases for callback in overhead.WAYS]
    assert [(row["network"], row["batch"], row["callback"]) for row in rows] == expected
    assert all(row["plain_ms"] > 0 and row["attached_ms"] > 0 and 0.2 < row["time_ratio"] < 5 for row in rows)
    once = [row["callback"] for row in rows if row["ms_a_run"] is not None]
    assert once == ["nothing", "nothing, inferred"] * 4
    assert "shapes, batch 8, raag: " in capsys.readouterr().out


def test_without_families_one_is_inferred_and_they_come_back():
    before = list(registry._FAMILIES)
    pipe = BENCHES["Wan"].build(SIZES["tiny"])
    with overhead.no_families(), attach(pipe, overhead.nothing) as attachment:
        assert attachment.family is None
    assert before and before == registry._FAMILIES
    with attach(pipe, overhead.nothing) as attachment:
        assert attachment.family is not None
