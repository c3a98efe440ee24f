import io
import json
import subprocess

import numpy as np
import pytest
from PIL import Image

from diffusion_guidance import RAAG, load_pipeline
from diffusion_guidance.evaluation.sampling import (
    Job,
    generate,
    plan,
    sample,
)
from diffusion_guidance.evaluation.settings import keep_settings

from ..tiny import PROMPTS, tiny_dit, tiny_sd3


CALL = {"num_inference_steps": 2, "max_sequence_length": 1}


@pytest.fixture(scope="module")
def pipe():
    return tiny_sd3()


@pytest.fixture(scope="module")
def checkpoint(pipe, tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    pipe.save_pretrained(folder)
    return folder


def pixels(path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(int)


def test_a_image_depends_on_its_seed_not_on_its_batch(pipe, tmp_path):
    for size in (1, 2, 3):
        jobs = plan(PROMPTS[:1], range(5), tmp_path / str(size))
        assert len(list(generate(pipe, jobs, [RAAG(5, 2)], batch_size=size, **CALL))) == 5
    for seed in range(5):
        one, *others = (pixels(tmp_path / str(size) / f"{seed:06d}.png") for size in (1, 2, 3))
        for other in others:  # rounding may move a value over the edge between two of 256 levels
            assert np.abs(one - other).max() <= 1
    assert np.abs(pixels(tmp_path / "1" / "000000.png") - pixels(tmp_path / "1" / "000001.png")).max() > 10


def test_existing_images_are_skipped_and_the_rest_drawn(pipe, tmp_path):
    jobs = plan(PROMPTS, range(2), tmp_path)
    first = next(generate(pipe, jobs, [], batch_size=1, **CALL))
    stamp = first.stat().st_mtime_ns
    rest = list(generate(pipe, jobs, [], batch_size=4, **CALL))
    assert len(rest) == 3 and first not in rest and first.stat().st_mtime_ns == stamp
    assert list(generate(pipe, jobs, [], **CALL)) == []


def test_a_damaged_file_does_not_count_as_drawn(pipe, tmp_path):
    """F15: empty, cut off, a bit turned, of another size."""
    jobs = plan(PROMPTS[:1], range(6), tmp_path)
    list(generate(pipe, jobs, [], batch_size=6, **CALL))
    whole = [job.path.read_bytes() for job in jobs]
    turned = bytearray(whole[2])
    turned[len(turned) // 2] ^= 1
    for job, data in zip(jobs, (b"", whole[1][:-20], turned), strict=False):
        job.path.write_bytes(data)
    Image.new("RGB", (3, 3)).save(jobs[3].path)
    assert list(generate(pipe, jobs, [], batch_size=6, **CALL)) == [job.path for job in jobs[:4]]
    assert all(
        np.abs(pixels(job.path) - pixels(io.BytesIO(data))).max() <= 1 for job, data in zip(jobs, whole, strict=True)
    )


def test_class_ids_go_to_a_class_conditional_pipeline(tmp_path):
    jobs = plan([0, 1], range(2), tmp_path, pair=True)
    assert [job.condition for job in jobs] == [0, 1]
    assert len(list(generate(tiny_dit(), jobs, [RAAG(5, 2)], num_inference_steps=2))) == 2


def test_the_plan_names_files_by_seed(tmp_path):
    assert plan(["a"], [3], tmp_path) == [Job(3, "a", tmp_path / "000003.png")]
    crossed = plan(["a", "b"], [3, 4], tmp_path)
    assert [p.path.relative_to(tmp_path).as_posix() for p in crossed] == [
        "000/000003.png",
        "000/000004.png",
        "001/000003.png",
        "001/000004.png",
    ]
    paired = plan(["a", "b"], [3, 4, 5], tmp_path, pair=True)
    assert [(p.seed, p.condition) for p in paired] == [(3, "b"), (4, "a"), (5, "b")]
    assert set(plan(["a", "b"], [4, 6], tmp_path, pair=True)) <= set(plan(["a", "b"], range(8), tmp_path, pair=True))


def test_a_folder_keeps_to_its_settings(tmp_path):
    keep_settings(tmp_path, {"steps": 5, "guidance": []})
    keep_settings(tmp_path, {"steps": 5, "guidance": []})
    with pytest.raises(ValueError, match="made with another steps"):
        keep_settings(tmp_path, {"steps": 6, "guidance": []})
    assert "torch" in json.loads((tmp_path / "settings.json").read_text())["versions"]


def test_an_unreadable_checkpoint_is_one_clear_error(tmp_path, checkpoint):
    with pytest.raises(ValueError, match="cannot load a pipeline from"):
        load_pipeline(str(tmp_path))
    broken = tmp_path / "broken"
    subprocess.run(["cp", "-r", checkpoint, broken], check=True, timeout=300)
    (broken / "transformer" / "diffusion_pytorch_model.safetensors").write_bytes(b"not a file of weights")
    with pytest.raises(ValueError, match="cannot load a pipeline from"):
        load_pipeline(str(broken))


def test_evaluations_of_the_network_are_counted(pipe):
    def again(step, proceed):
        step.denoise(step.sample, step.timestep)
        return proceed(step)

    call = CALL | {"output_type": "latent", "guidance_scale": 3.0}
    plain, evaluations = sample(pipe, PROMPTS, [5, 6], [], **call)
    assert (plain.images.shape[0], evaluations) == (2, 2)
    other, evaluations = sample(pipe, PROMPTS, [5, 6], [again], **call)
    assert evaluations == 4 and (other.images == plain.images).all()
