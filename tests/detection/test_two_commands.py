"""Two commands on one --out, started together: one writes, the other is refused or goes on after it."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffusion_guidance.cli.command import main
from diffusion_guidance.core.locking import locked_file
from diffusion_guidance.networks.patch_encoder import PatchEncoder


FILES, ROUNDS = 24, 10


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    folder, draw = tmp_path_factory.mktemp("two"), np.random.default_rng(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        PatchEncoder(filters=8).save_pretrained(folder / "encoder")
    (folder / "images").mkdir()
    for index in range(FILES):
        pixels = draw.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{index:02}.png")
    return ["detect", "score", str(folder / "images"), "--encoder", f"local:{folder}/encoder", "--batch-size", "2"]


@pytest.fixture
def workers():
    command = [sys.executable, "-m", "tests.detection.worker"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    found = [subprocess.Popen(command, cwd=Path(__file__).parents[2], **pipes) for _ in range(2)]
    try:
        for worker in found:
            assert worker.stdout.readline() == "ready\n", worker.stderr.read()
        yield found
    finally:
        for worker in found:
            worker.communicate(timeout=300)


def paths(table: Path) -> list[str]:
    with open(table, newline="") as file:
        return [row["path"] for row in csv.DictReader(file)]


def test_two_together_leave_one_whole_table(arguments, workers, tmp_path):
    assert main([*arguments, "--out", str(tmp_path / "alone.csv")]) == 0
    alone = (tmp_path / "alone.csv").read_bytes()
    refused = 0
    for number in range(ROUNDS):
        out = tmp_path / f"{number % 5}.csv"  # the second five times there is a table already, which is thrown away
        more = ["--out", str(out), *(["--overwrite"] if number >= ROUNDS // 2 else [])]
        for worker in workers:
            worker.stdin.write(json.dumps([*arguments, *more]) + "\n")
        for worker in workers:
            worker.stdin.flush()
        codes = sorted(int(worker.stdout.readline()) for worker in workers)
        assert codes in ([0, 0], [0, 2])
        refused += codes == [0, 2]
        assert len(set(paths(out))) == len(paths(out)) == FILES
        assert out.read_bytes() == alone
        assert main([*arguments, "--out", str(out)]) == 0  # it can be resumed, and nothing is left to do
        assert out.read_bytes() == alone
    assert refused
    assert not list(tmp_path.glob(".*"))


def test_who_comes_second_is_told_in_one_sentence(arguments, tmp_path, capfd):
    out = tmp_path / "r.csv"
    assert main([*arguments, "--out", str(out)]) == 0
    before, _ = out.read_bytes(), capfd.readouterr()
    lock = "import sys; from diffusion_guidance.core.locking import locked_file\n"
    lock += "with locked_file(sys.argv[1]):\n    print('held', flush=True)\n    sys.stdin.read()\n"
    with subprocess.Popen(
        [sys.executable, "-c", lock, out], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        for more in ([], ["--overwrite"]):
            assert main([*arguments, "--out", str(out), *more]) == 2
            (line,) = capfd.readouterr().err.splitlines()
            said = f"process {other.pid} writes to {out}; wait until it ends, or choose another place"
            assert line == f"diffusion-guidance detect: {said}"
            assert out.read_bytes() == before
        other.communicate(timeout=300)
    assert main([*arguments, "--out", str(out), "--overwrite"]) == 0
    with locked_file(out):  # given up
        pass
