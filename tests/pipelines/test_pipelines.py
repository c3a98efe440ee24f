"""What diffusers demands of its own pipelines, and what ours promise beyond that, for every custom pipeline."""

import inspect
import shutil
import sys

import accelerate
import pytest
import torch
from diffusers import DiffusionPipeline

from diffusion_guidance import RAAG, attach

from .cases import CASES, DERIVED, FOLDER


RATIO_AWARE = RAAG(w_max=6.0, alpha=3.0)


def named(cases):
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.tiny.name)


@pytest.fixture(scope="module")
def pipe_of():
    made = {}

    def pipe(case):
        if case.tiny.name not in made:
            made[case.tiny.name] = case.pipe()
        return made[case.tiny.name]

    return pipe


def absent(pipe) -> dict:
    """Components that the tiny pipeline lacks; diffusers requires None for them when it loads."""
    return {name: None for name, part in pipe.components.items() if part is None}


def load(kind, folder, pipe, **kwargs):
    loaded = kind.from_pretrained(folder, **absent(pipe), **kwargs)
    loaded.set_progress_bar_config(disable=True)
    return loaded


@named(DERIVED)
def test_without_guidance_it_is_the_stock_pipeline(case, pipe_of):
    pipe = pipe_of(case)
    assert torch.equal(case.tiny.draw(pipe), case.tiny.draw(case.tiny.pipe()))


@named(CASES)
def test_guidance_in_the_call_equals_attached(case, pipe_of):
    pipe = pipe_of(case)
    plain, guided = case.tiny.draw(pipe), case.tiny.draw(pipe, guidance=RATIO_AWARE)
    stock = case.tiny.pipe()
    with attach(stock, RATIO_AWARE):
        assert torch.equal(guided, case.tiny.draw(stock))
    assert not torch.allclose(guided, plain, atol=1e-4)
    assert torch.equal(case.tiny.draw(pipe), plain)  # nothing stays attached


@named(CASES)
def test_guidance_set_before(case):
    pipe = case.pipe(guidance=[RATIO_AWARE])
    expected = case.tiny.draw(case.pipe(), guidance=RATIO_AWARE)
    assert torch.equal(case.tiny.draw(pipe), expected)
    assert torch.equal(case.tiny.draw(pipe, guidance=[]), case.tiny.draw(case.pipe()))
    pipe.guidance = None
    assert torch.equal(case.tiny.draw(pipe), case.tiny.draw(case.pipe()))


@named(CASES)
def test_nothing_stays_attached_after_an_error(case, pipe_of):
    def fail(step, proceed):
        raise ArithmeticError

    pipe = pipe_of(case)
    with pytest.raises(ArithmeticError):
        case.tiny.draw(pipe, guidance=fail)
    assert "step" not in vars(pipe.scheduler)
    case.tiny.draw(pipe, guidance=RATIO_AWARE)


@named(DERIVED)
def test_signatures_are_the_stock_ones_and_guidance(case):
    for method, added in (("__init__", {"guidance": None, "trust_guidance": False}), ("__call__", {"guidance": None})):
        stock = dict(inspect.signature(getattr(case.stock, method)).parameters)
        ours = dict(inspect.signature(getattr(case.kind, method)).parameters)
        for name, default in added.items():
            parameter = ours.pop(name)
            assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
            assert parameter.default is default
        assert ours == stock


@named(CASES)
def test_from_pipe_shares_components(case):
    stock = case.tiny.pipe()
    pipe = case.kind.from_pipe(stock)
    assert all(part is stock.components[name] for name, part in pipe.components.items())
    modules = [part for part in stock.components.values() if isinstance(part, torch.nn.Module)]
    modules[-1].to(torch.bfloat16)  # an autoencoder often has a type of its own
    types = [module.dtype for module in modules]
    case.kind.from_pipe(stock)
    assert [module.dtype for module in modules] == types
    case.kind.from_pipe(stock, dtype=torch.float16)
    assert {module.dtype for module in modules} == {torch.float16}


@named(CASES)
def test_saved_guidance_is_loaded(case, tmp_path):
    pipe = case.pipe(guidance=RATIO_AWARE)
    pipe.save_pretrained(tmp_path / "with")
    loaded = load(case.kind, tmp_path / "with", pipe)
    assert repr(loaded.guidance) == repr([RATIO_AWARE])
    expected = case.tiny.draw(pipe)
    torch.testing.assert_close(case.tiny.draw(loaded), expected, rtol=1e-5, atol=1e-5)
    assert load(case.kind, tmp_path / "with", pipe, guidance=[]).guidance == []

    stock = case.tiny.pipe()
    stock.save_pretrained(tmp_path / "without")
    loaded = load(case.kind, tmp_path / "without", pipe)
    assert loaded.guidance is None
    torch.testing.assert_close(case.tiny.draw(loaded, guidance=RATIO_AWARE), expected, rtol=1e-5, atol=1e-5)


@named(CASES)
def test_file_alone_is_a_custom_pipeline(case, tmp_path, monkeypatch):
    monkeypatch.setattr("diffusers.utils.dynamic_modules_utils.HF_MODULES_CACHE", str(tmp_path / "cache"))
    file = shutil.copy(FOLDER / case.file, tmp_path)
    pipe = case.pipe(guidance=RATIO_AWARE)
    pipe.save_pretrained(tmp_path / "saved")
    monkeypatch.setitem(sys.modules, "pipelines", None)  # only `guidance` is there
    code = {"custom_pipeline": str(file), "trust_remote_code": True}
    loaded = load(DiffusionPipeline, tmp_path / "saved", pipe, **code)
    assert type(loaded).__name__ == case.kind.__name__
    assert type(loaded).__module__.startswith("diffusers_modules")
    expected = case.tiny.draw(pipe)
    torch.testing.assert_close(case.tiny.draw(loaded), expected, rtol=1e-5, atol=1e-5)
    made = case.stock.from_pipe(case.tiny.pipe(), guidance=[RATIO_AWARE], **code)
    made.set_progress_bar_config(disable=True)
    assert torch.equal(case.tiny.draw(made), expected)


@named(CASES)
def test_a_sample_does_not_depend_on_its_batch(case, pipe_of):
    def generators(count):
        return [torch.Generator().manual_seed(seed) for seed in range(count)]

    pipe = pipe_of(case)
    both = case.tiny.draw(pipe, guidance=RATIO_AWARE, generator=generators(2))
    first = {name: value[:1] for name, value in case.tiny.inputs().items() if isinstance(value, torch.Tensor | list)}
    alone = case.tiny.draw(pipe, guidance=RATIO_AWARE, generator=generators(1), **first)
    # Kernels round differently for another batch size, in proportion to the largest values, guided or not.
    assert (alone - both[:1]).abs().max() < 3e-6 * both.abs().max()


@named(CASES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision(case, dtype):
    pipe = case.pipe(dtype)
    result, plain = case.tiny.draw(pipe, guidance=RATIO_AWARE), case.tiny.draw(pipe)
    assert result.dtype == plain.dtype  # Wan keeps its latents in float32
    assert torch.isfinite(result).all()
    assert not torch.equal(result, plain)


@named([case for case in CASES if "callback_on_step_end" in inspect.signature(case.kind.__call__).parameters])
def test_step_callbacks(case, pipe_of):
    seen = []

    def callback(pipe, index, t, tensors):
        seen.append((index, sorted(tensors)))
        return {"latents": torch.zeros_like(tensors["latents"])}

    result = case.tiny.draw(pipe_of(case), guidance=RATIO_AWARE, callback_on_step_end=callback)
    assert seen == [(index, ["latents"]) for index in range(3)]
    assert not result.any()


@named(CASES)
def test_offload(case):
    pipe = case.pipe()
    expected = case.tiny.draw(pipe, guidance=RATIO_AWARE)
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            accelerate.cpu_offload(part, torch.device("cpu"))
    assert pipe.device.type == "meta"
    assert torch.equal(case.tiny.draw(pipe, guidance=RATIO_AWARE), expected)


@pytest.mark.gpu
@named(CASES)
@pytest.mark.parametrize("how", ["enable_model_cpu_offload", "enable_sequential_cpu_offload"])
def test_offload_to_gpu(case, how):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    pipe = case.pipe().to("cuda")
    expected = case.tiny.draw(pipe, guidance=RATIO_AWARE).cpu()
    pipe = case.pipe()
    getattr(pipe, how)()
    torch.testing.assert_close(case.tiny.draw(pipe, guidance=RATIO_AWARE).cpu(), expected, rtol=1e-3, atol=1e-3)
