import time

from scripts.benchmarks import timing


def test_ratios_belong_to_their_round():
    row = timing.ratio("r", [2.0, 30.0, 5.0], [1.0, 10.0, 5.0])
    assert row == {"r": 2.0, "r_quartiles": [1.5, 2.5]}


def test_every_round_runs_every_way():
    calls = []
    times = timing.interleaved({name: lambda name=name: calls.append(name) for name in "abc"}, 3)
    assert "".join(calls) == "abc" + "abcbcacab"  # after a warm-up
    assert all(len(each) == 3 for each in times.values())


def test_times_are_milliseconds():
    found = timing.medians(timing.interleaved({"nap": lambda: time.sleep(0.02), "none": int}, 3))
    assert found["nap_ms"] >= 20 > found["none_ms"]
