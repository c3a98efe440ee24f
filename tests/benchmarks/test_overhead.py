from pathlib import Path

from diffusion_guidance.evaluation import read_report
from scripts.benchmarks import overhead


def test_the_overhead_is_a_report(tmp_path, capsys):
    file = tmp_path / "overhead.json"
    overhead.BENCHMARK.main(
        ["--rounds", "2", "--json", str(file), "--assets", str(Path(__file__).parents[2] / "assets")]
    )
    meta, rows = read_report(file)
    assert meta["rounds"] == 2 and "threads" in meta and {"command", "commit", "versions"} <= set(meta)
    cases = [("shapes", 1), ("shapes", 8), ("StableDiffusion3, tiny", 1), ("Wan, tiny", 1)]
    expected = [(network, batch, callback) for network, batch in cases for callback in ("nothing", "raag")]
    assert [(row["network"], row["batch"], row["callback"]) for row in rows] == expected
    assert all(row["plain_ms"] > 0 and row["attached_ms"] > 0 and 0.2 < row["time_ratio"] < 5 for row in rows)
    assert "shapes, batch 8, raag: " in capsys.readouterr().out
