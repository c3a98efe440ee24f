import contextlib
from pathlib import Path
from types import SimpleNamespace

import pytest

from scripts.benchmarks import trust


ASSETS = Path(__file__).parents[2] / "assets"


def test_a_run_meets_every_check_and_does_without(tmp_path):
    met = set()

    def noted(check, function):
        return lambda *args: met.add(check[1]) or function(*args)

    checked = {check: noted(check, getattr(*check)) for check in trust.CHECKS}
    for number, way in enumerate((trust.starts(ASSETS) | trust.many(ASSETS, 2, 2)).values()):
        for name, checks in (("with", checked), ("without", trust.CHECKS)):
            (folder := tmp_path / f"{number}-{name}").mkdir()
            with trust.replaced(checks):
                way(folder)
        assert not [*folder.rglob("settings.json")]
    assert met == {name for _, name in trust.CHECKS}


@pytest.fixture
def sleep(monkeypatch):
    """Moves the clock on, which else stands still."""
    now = [0.0]
    monkeypatch.setattr(trust, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    return lambda seconds: now.__setitem__(0, now[0] + seconds)


def test_a_check_within_a_check_counts_once_and_what_a_lock_surrounds_does_not(sleep):
    @contextlib.contextmanager
    def lock():
        sleep(1)
        yield "held"
        sleep(2)

    clock = trust.Clock()
    inner = clock.timed(lambda: sleep(4))
    clock.timed(lambda: (inner(), sleep(8)))()
    assert clock.seconds == 12
    with clock.timed(lock)() as held:
        sleep(100)
    assert (held, clock.seconds) == ("held", 15)


def test_the_share_is_of_the_whole_run(sleep, monkeypatch):
    monkeypatch.setattr(trust, "CHECKS", {(trust.identity, "versions"): dict})
    monkeypatch.setattr(trust.identity, "versions", lambda: sleep(1))
    ways = trust.with_and_without(lambda folder: (trust.identity.versions(), sleep(3)), shares := [])
    assert (ways["with"](), ways["without"](), shares) == (None, 3, [0.25])
    row = trust.row("x", [0.1, 0.2, 0.3], {"with": [10.0, 20.0, 30.0], "without": [10.0, 10.0, 10.0]})
    assert (row["share"], row["check_ms"], row["time_ratio"]) == (0.2, 4.0, 2.0)
