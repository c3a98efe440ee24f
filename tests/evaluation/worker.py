"""One of several processes of a run: worker.py FOLDER WHAT-DRAWS SAMPLES [RANK-THAT-STOPS]."""

import os
import sys
import time
from pathlib import Path

import torch

from diffusion_guidance.evaluation.run import process_state
from tests.evaluation.runs import noise_draw, report, run


def stops_at_its_second_chunk(folder: Path):
    """Draws until 64 images are stored, then writes its process id to `folder` and waits to be killed."""
    drawn = 0

    def draw(seeds):
        nonlocal drawn
        if drawn >= 64:
            (folder / ".pid").write_text(str(os.getpid()))
            (folder / ".pid").rename(folder / "pid")
            time.sleep(600)
        drawn += len(seeds)
        return noise_draw(seeds)

    return draw


def main(folder: Path, kind: str, samples: int, stopping: int = -1) -> None:
    torch.set_num_threads(1)
    state = process_state()
    assert state.num_processes == 2
    draw = {"pipeline": None, "noise": noise_draw}[kind]
    if state.process_index == stopping:
        draw = stops_at_its_second_chunk(folder)
    store = run(folder, samples, state=state, draw=draw)
    if state.is_main_process:
        report(folder, store)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:]))
