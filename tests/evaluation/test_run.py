"""Runs do not depend on batches or processes, survive SIGKILL to the byte, and store what they measured."""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from diffusion_guidance.core.files import TEMPORARY
from diffusion_guidance.evaluation import ChunkStore, Moments, find_run, read_report
from diffusion_guidance.evaluation.run import describe_seeds

from . import runs
from .runs import EXTRACTOR, noise_draw, report, run, run_and_report


TORCHRUN = ["torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
# What `accelerate launch` needs to start processes on a CPU too: it starts them itself for this option only.
ACCELERATE = ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
ACCELERATE += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> tuple[ChunkStore, bytes]:
    folder = tmp_path_factory.mktemp("undisturbed")
    store = run(folder)
    return store, report(folder, store)


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_batches_change_nothing_but_rounding(undisturbed, batch_size, tmp_path):
    """Kernels may sum in another order for another batch: then few pixels move by one of 255 levels."""
    store, other = undisturbed[0], run(tmp_path, 70, batch_size)
    levels = (next(store.rows("images")).int() - next(other.rows("images")).int()).abs()
    assert levels.max() <= 1
    assert (levels > 0).float().mean() < 1e-3
    np.testing.assert_allclose(store.array("features")[:70], other.array("features"), atol=1e-4)
    assert np.ptp(store.array("features"), axis=0).min() > 0.01


def test_batches_change_nothing_at_all_where_the_network_does_not(tmp_path):
    reports = [
        report(tmp_path / str(size), run(tmp_path / str(size), batch_size=size, draw=noise_draw)) for size in (1, 7, 64)
    ]
    assert reports[0] == reports[1] == reports[2]


def test_what_is_stored(undisturbed):
    store = undisturbed[0]
    assert store.names() == ["alignment", "contrast", "effective_weight", "features", "nfe", "saturation"]
    assert [len(rows) for rows in store.rows("features")] == [64, 64, 22]
    assert set(store.array("nfe")) == {2}
    features = store.array("features")
    parts = store.moments(7)
    assert sum(part.count for part in parts) == 150
    np.testing.assert_allclose(parts[3].mean, Moments.of(features[64:85]).mean)
    images = next(store.rows("images"))
    np.testing.assert_array_equal(EXTRACTOR(images / 255)["features"].numpy(), features[:64])
    assert find_run(store.folder.parent).samples == 150


def test_only_what_is_missing_is_drawn(undisturbed, tmp_path):
    drawn = []

    def draw(seeds):
        drawn.extend(seeds)
        return noise_draw(seeds)

    store = run(tmp_path, draw=draw)
    first = report(tmp_path, store)
    assert sorted(drawn) == list(range(10, 160))
    store.path(range(64, 128)).write_bytes(b"half a file")
    with pytest.raises(ValueError, match="lacks 64 samples"):
        find_run(tmp_path)
    (store.folder / f"{TEMPORARY}left.safetensors").touch()
    drawn.clear()
    assert report(tmp_path, run(tmp_path, draw=draw)) == first
    assert drawn == list(range(74, 138))
    assert not list(store.folder.glob(".*"))
    with pytest.raises(ValueError, match="another seeds"):
        run(tmp_path, 10, draw=draw)


def test_a_measure_of_the_wrong_length_is_refused(tmp_path):
    with pytest.raises(ValueError, match="nfe: expected one row for each of 20"):
        run(tmp_path, 20, draw=lambda seeds: (noise_draw(seeds)[0], {"nfe": torch.zeros(1)}))


def test_describe_seeds():
    assert describe_seeds([0, 1, 2, 9, 4, 5]) == [[0, 2], [9, 9], [4, 5]]


def test_sigkill_at_random_moments_ends_with_the_same_bytes(tmp_path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([runs.__name__])
    samples = 512

    def start(folder: Path) -> multiprocessing.Process:
        process = context.Process(target=run_and_report, args=(folder, samples), daemon=True)
        process.start()
        return process

    ready = context.Process(target=int)  # the imports are not to be timed
    ready.start()
    ready.join(300)
    begun = time.monotonic()
    whole = start(tmp_path / "whole")
    whole.join(300)
    length = time.monotonic() - begun
    assert whole.exitcode == 0

    moments, left = random.Random(0), []
    for _ in range(5):
        process = start(tmp_path / "killed")
        time.sleep(length * moments.uniform(0.04, 0.18))
        process.kill()
        process.join(300)
        assert process.exitcode == -signal.SIGKILL, "it had ended before it was killed"
        left.append(sum(map(len, ChunkStore(tmp_path / "killed" / "samples", samples, 16).missing())))
    assert any(0 < count < samples for count in left), left
    last = start(tmp_path / "killed")
    last.join(300)
    assert last.exitcode == 0
    assert (tmp_path / "killed" / "report.json").read_bytes() == (tmp_path / "whole" / "report.json").read_bytes()


def launch(how: list[str], *arguments) -> subprocess.Popen:
    command = [sys.executable, "-m", *how, str(Path(runs.__file__).with_name("worker.py")), *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)


def finish(process: subprocess.Popen) -> None:
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-2000:]


@pytest.mark.slow
def test_two_processes_give_the_bytes_of_one(tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    one = run(tmp_path / "one")
    torch.set_num_threads(threads)
    finish(launch(TORCHRUN, tmp_path / "two", "pipeline", 150))
    assert stored(tmp_path / "two") == stored(one.folder.parent)


@pytest.mark.slow
def test_a_lost_workers_seeds_are_done_again(tmp_path):
    """Of two live workers one is killed; the launcher ends the other, and started again they finish."""
    samples = 300
    launched = launch(TORCHRUN, tmp_path / "killed", "noise", samples, 1)
    while not (tmp_path / "killed" / "pid").exists():
        assert launched.poll() is None, launched.communicate(timeout=300)[1][-2000:]
        time.sleep(0.05)
    os.kill(int((tmp_path / "killed" / "pid").read_text()), signal.SIGKILL)
    _, errors = launched.communicate(timeout=300)
    assert launched.returncode != 0 and "SIGKILL" in errors
    left = ChunkStore(tmp_path / "killed" / "samples", samples).missing()
    assert range(192, 256) in left and range(64, 128) not in left

    finish(launch(ACCELERATE, tmp_path / "killed", "noise", samples))
    whole = run(tmp_path / "whole", samples, draw=noise_draw)
    assert stored(tmp_path / "killed") == stored(tmp_path / "whole")
    report(tmp_path / "whole", whole)
    rows = [read_report(tmp_path / name / "report.json")[1] for name in ("killed", "whole")]
    assert rows[0] == rows[1]


def stored(folder: Path) -> dict[str, bytes]:
    """The files of everything measured."""
    return {path.name: path.read_bytes() for path in (folder / "samples").iterdir()}
