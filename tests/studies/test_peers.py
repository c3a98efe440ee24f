import json
from pathlib import Path

from diffusion_guidance.core.kinds import known_kinds
from scripts.studies import peers as study_peers
from scripts.studies import peers_methods


ROOT = Path(__file__).parents[2]


def test_a_small_study_of_every_method(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(peers_methods, "WEIGHTS", {"digits": (3.0,), "shapes": (3.0,)})
    monkeypatch.setattr(peers_methods, "CURVE", {"digits": (1.0, 3.0, 7.0), "shapes": (3.0,)})
    monkeypatch.setattr(study_peers, "BUDGET", {"digits": 10, "shapes": 2})
    out = tmp_path / "peers-digits.json"
    command = ["--samples", "4", "--assets", str(ROOT / "assets"), "--out", str(out), "--work", str(tmp_path / "work")]
    study_peers.STUDY.main(command)
    paths = [out, tmp_path / "peers-shapes.json"]
    rows = [row for path in paths for row in json.loads(path.read_text())["rows"]]
    for row in rows:
        assert row["frechet"] > 0 and 0 <= row["alignment"] <= 1 and row["samples"] == 4
        if row["world"] == "digits":  # two steps are too few for the window of skip layers
            changes_the_network = row["method"] in (
                "autoguidance",
                "autoguidance, worse network",
                "skip layer",
                "perturbed attention",
                "smoothed energy",
            )
            # Outside of an interval, or once both agree, the conditional pass runs alone.
            assert row["nfe"] > row["steps"] if changes_the_network else 5 <= row["nfe"] <= 10, row["method"]
            assert ("difference_to_best" in row) == (row["method"] != "CFG")
    # No method is another one under its name.
    (digits, methods) = (
        [row for row in rows if row["world"] == "digits"],
        peers_methods.peers("digits", ROOT / "assets"),
    )
    assert {row["method"] for row in digits} == set(methods)
    assert len({row["frechet"] for row in digits}) == len(digits)
    assert (tmp_path / "peers-digits.png").stat().st_size > 1000 and (tmp_path / "peers-shapes.png").exists()
    assert "tangential CFG" in capsys.readouterr().out


def test_every_method_of_the_package_that_combines_predictions_is_compared():
    """Those left out need a network, prompts or processors of their own, or only look on."""
    left_out = {"Trace", "CalibrationTrace", "NAG", "GuiderCallback"}
    seen = set()
    for world in ("digits", "shapes"):
        for peer in peers_methods.peers(world, ROOT / "assets").values():
            seen |= {type(callback).__name__ for callback in peer.make(peer.values[0])}
    own = {kind.__name__ for kind in known_kinds().values() if kind.__module__.startswith("diffusion_guidance.")}
    assert own - seen <= left_out and seen <= own
