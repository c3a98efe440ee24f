import threading

import pytest
import torch

from diffusion_guidance.evaluation import read_report
from scripts.benchmarks import threads
from scripts.benchmarks.random_pipelines import BENCHES, SIZES


@pytest.fixture(autouse=True)
def same_number_of_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_all_calls_of_all_threads_are_equal(tmp_path):
    file = tmp_path / "threads.json"
    threads.BENCHMARK.main(["--calls", "2", "--threads", "3", "--json", str(file)])
    meta, rows = read_report(file)
    assert meta["calls"] == 2 and len(rows) == 2 * len(threads.WHO)
    assert all(row["equal"] == row["calls"] == 6 and row["others"] is None for row in rows)


def test_it_sees_what_is_not_equal_and_what_fails():
    pipe, inputs = BENCHES["StableDiffusion3"].build(SIZES["tiny"]), BENCHES["StableDiffusion3"].inputs(SIZES["tiny"])
    calls = iter(range(10**6))

    def unlike():
        if next(calls) == 3:
            raise InterruptedError
        return lambda step, proceed: proceed(step) + (threading.current_thread() is not threading.main_thread())

    found = threads.run(pipe, inputs, (None, unlike), 2, 4)
    assert found == {"equal": 4, "different": 3, "failed: InterruptedError": 1}
