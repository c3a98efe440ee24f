import itertools
import json
import logging

import diffusers.guiders
import pytest
import torch
from diffusers import ModularPipeline
from diffusers.guiders import (
    AdaptiveProjectedGuidance,
    AdaptiveProjectedMixGuidance,
    AutoGuidance,
    BaseGuidance,
    ClassifierFreeGuidance,
    ClassifierFreeZeroStarGuidance,
    FrequencyDecoupledGuidance,
    LTX2Guidance,
    MagnitudeAwareGuidance,
    PerturbedAttentionGuidance,
    SkipLayerGuidance,
    SmoothedEnergyGuidance,
    TangentialClassifierFreeGuidance,
)
from diffusers.hooks import LayerSkipConfig
from diffusers.hooks.hooks import HookRegistry
from diffusers.hooks.smoothed_energy_guidance_utils import (
    SmoothedEnergyGuidanceConfig,
    _apply_smoothed_energy_guidance_hook,
)

from diffusion_guidance import (
    CFG,
    RAAG,
    CallbackGuider,
    DiffIER,
    GuiderCallback,
    MissingUnconditionalError,
    Trace,
    attach,
    from_config,
    load_guidance,
    save_guidance,
    to_config,
)

from ..modular import BLOCKS, TINY, draw, draw_modular, modular
from ..nosync import NoSynchronisation


COMBINERS = {
    "CFG": lambda: ClassifierFreeGuidance(4.0, guidance_rescale=0.3, start=0.34),
    "CFG, original formula": lambda: ClassifierFreeGuidance(3.0, use_original_formulation=True),
    "Zero*": lambda: ClassifierFreeZeroStarGuidance(4.0),
    "APG": lambda: AdaptiveProjectedGuidance(6.0, adaptive_projected_guidance_momentum=-0.5, eta=0.3),
    "APG mix": lambda: AdaptiveProjectedMixGuidance(adaptive_projected_guidance_start_step=1),
    "frequency decoupled": lambda: FrequencyDecoupledGuidance([6.0, 3.0]),
    "tangential": lambda: TangentialClassifierFreeGuidance(4.0),
    "magnitude aware": lambda: MagnitudeAwareGuidance(6.0, alpha=3.0),
    "LTX-2": lambda: LTX2Guidance(4.0),
}
CHANGERS = {
    "skip layer": lambda: SkipLayerGuidance(
        skip_layer_config=LayerSkipConfig([0]), skip_layer_guidance_start=0.0, skip_layer_guidance_stop=1.0
    ),
    "perturbed attention": lambda: PerturbedAttentionGuidance(
        perturbed_guidance_layers=[0], perturbed_guidance_start=0.0, perturbed_guidance_stop=1.0
    ),
    "smoothed energy": lambda: SmoothedEnergyGuidance(seg_guidance_config=SmoothedEnergyGuidanceConfig([0])),
    "auto": lambda: AutoGuidance(auto_guidance_config=LayerSkipConfig([0])),
}
GUIDERS = COMBINERS | CHANGERS

#: Where diffusers' own guider fails in its own modular pipeline, or gives NaN (docs/guiders.md says why).
FAILS = {
    ("StableDiffusion3", "skip layer"),
    ("StableDiffusion3", "perturbed attention"),
    ("StableDiffusion3", "auto"),
    ("StableDiffusionXL", "skip layer"),
    ("StableDiffusionXL", "perturbed attention"),
    ("StableDiffusionXL", "auto"),
    ("QwenImage", "Zero*"),
    ("QwenImage", "frequency decoupled"),
    ("QwenImage", "skip layer"),
    ("QwenImage", "auto"),
    ("Wan 2.1", "frequency decoupled"),
    ("Wan 2.1", "perturbed attention"),
    ("Wan 2.2", "frequency decoupled"),
    ("Wan 2.2", "perturbed attention"),
}


@pytest.fixture(scope="module")
def pipes():
    """Tiny pipelines, made once; name -> pipeline."""

    class Pipes(dict):
        def __missing__(self, name):
            self[name] = TINY[name].pipe()
            return self[name]

    return Pipes()


@pytest.fixture(autouse=True)
def quiet():
    logging.disable(logging.ERROR)  # modular pipelines print a traceback per nested block
    yield
    logging.disable(logging.NOTSET)


def direct(guider: BaseGuidance, step, cond, uncond) -> torch.Tensor:
    guider.set_state(step.index, step.total, step.timestep)
    passes = guider.prepare_inputs({"value": (cond, uncond, None, None)})
    for one in passes:
        one.noise_pred = one.value
    return guider(passes).pred


def close(result: torch.Tensor, expected: torch.Tensor, tolerance: float) -> bool:
    return bool((result - expected).abs().max() <= tolerance * expected.abs().max())


def hooks(module: torch.nn.Module) -> int:
    return sum(len(part._diffusers_hook.hooks) for part in module.modules() if hasattr(part, "_diffusers_hook"))


def test_every_guider_of_diffusers_is_tested():
    kinds = {kind for kind in vars(diffusers.guiders).values() if isinstance(kind, type)} - {BaseGuidance}
    assert {type(make()) for make in GUIDERS.values()} == kinds


@pytest.mark.parametrize("name", COMBINERS)
def test_guider_equals_itself_called_directly(pipes, name):
    # Four-dimensional predictions, of which MagnitudeAwareGuidance makes an error by itself.
    seen, reference = [], COMBINERS[name]()

    def check(step, proceed):
        prediction = proceed(step)
        pair = step.cond, step.uncond
        if name == "magnitude aware":
            pair = [half.flatten(1) for half in pair]
        seen.append(torch.equal(prediction, direct(reference, step, *pair).reshape(prediction.shape)))
        return prediction

    with attach(pipes["StableDiffusion3"], [GuiderCallback(COMBINERS[name]()), check]):
        guided = TINY["StableDiffusion3"].draw(pipes["StableDiffusion3"])
    assert seen == [True] * 3
    assert not torch.equal(guided, TINY["StableDiffusion3"].draw(pipes["StableDiffusion3"]))


@pytest.mark.parametrize(
    ("family", "name"),
    [
        pair
        for pair in itertools.product(BLOCKS, GUIDERS)
        if pair not in FAILS and pair[1] not in ("magnitude aware", "smoothed energy")  # which have their own tests
    ],
)
def test_guider_equals_itself_in_modular_pipeline(pipes, family, name):
    tiny, pipe = TINY[family], pipes[family]
    with attach(pipe, GuiderCallback(GUIDERS[name]())):
        attached = draw(tiny, pipe)
    expected = draw_modular(tiny, modular(family, pipe, GUIDERS[name]()))
    # Stable Diffusion makes one call of both halves where the modular pipeline makes two.
    assert close(attached, expected, 3e-6 if family.startswith("Stable") else 0.0)
    assert not close(attached, draw(tiny, pipe), 1e-4)


def test_magnitude_aware_guidance_equals_itself_on_packed_latents(pipes):
    tiny, pipe = TINY["QwenImage"], pipes["QwenImage"]
    expected = draw_modular(tiny, modular("QwenImage", pipe, MagnitudeAwareGuidance(6.0, alpha=3.0)))
    with attach(pipe, GuiderCallback(MagnitudeAwareGuidance(6.0, alpha=3.0))):
        assert torch.equal(draw(tiny, pipe), expected)


@pytest.mark.parametrize("name", CHANGERS)
def test_network_is_changed_once_a_step_and_restored(pipes, name):
    tiny, pipe = TINY["DiT"], pipes["DiT"]
    before = tiny.draw(pipe)
    with attach(pipe, GuiderCallback(CHANGERS[name]())) as attachment:
        guided = tiny.draw(pipe)
        # Except for AutoGuidance, whose window is closed, diffusers leaves out the first step.
        assert attachment.evaluations == (3 if name == "auto" else 2)
        assert hooks(pipe.transformer) == 0
    assert not torch.equal(guided, before)
    assert torch.equal(tiny.draw(pipe), before)


def test_network_is_restored_after_an_error(pipes):
    tiny, pipe = TINY["StableDiffusion3"], pipes["StableDiffusion3"]
    before = tiny.draw(pipe)
    with pytest.raises(RuntimeError), attach(pipe, GuiderCallback(CHANGERS["skip layer"]())):
        tiny.draw(pipe)
    assert torch.equal(tiny.draw(pipe), before)


@pytest.mark.parametrize("in_place", [True, False])
def test_compiled_network_is_changed_too(pipes, in_place):
    tiny, compiled = TINY["DiT"], TINY["DiT"].pipe()
    torch._dynamo.reset()
    if in_place:
        compiled.transformer.compile(backend="eager")
    else:
        compiled.transformer = torch.compile(compiled.transformer, backend="eager")
    with attach(pipes["DiT"], GuiderCallback(CHANGERS["skip layer"]())):
        expected = tiny.draw(pipes["DiT"])
    with attach(compiled, GuiderCallback(CHANGERS["skip layer"]())):
        torch.testing.assert_close(tiny.draw(compiled), expected, rtol=1e-5, atol=1e-5)


def test_smoothed_energy_guidance_acts(pipes):
    # In diffusers it never does, since it does not count its passes; so its formula is the reference.
    tiny, pipe = TINY["Wan 2.1"], pipes["Wan 2.1"]

    def expected(step, proceed):
        prediction = step.uncond + 7.5 * (step.cond - step.uncond)
        if step.index == 0:
            return prediction
        network = step.denoiser.module
        _apply_smoothed_energy_guidance_hook(network, SmoothedEnergyGuidanceConfig([0]), 9999999.0, name="smooth")
        smoothed = step.denoise(step.sample, step.timestep)[0]
        HookRegistry.check_if_exists_or_initialize(network).remove_hook("smooth", recurse=True)
        return prediction + 2.8 * (step.cond - smoothed)

    with attach(pipe, expected):
        reference = draw(tiny, pipe)
    with attach(pipe, GuiderCallback(CHANGERS["smoothed energy"]())):
        assert close(draw(tiny, pipe), reference, 1e-6)


def test_state_is_new_in_each_run(pipes):
    tiny, pipe = TINY["StableDiffusion3"], pipes["StableDiffusion3"]
    with attach(pipe, GuiderCallback(COMBINERS["APG"]())):
        assert torch.equal(tiny.draw(pipe), tiny.draw(pipe))


def test_trials_take_no_part_in_what_a_guider_keeps(pipes):
    """APG's momentum, with evaluations at other samples in between."""
    tiny, pipe = TINY["StableDiffusion3"], pipes["StableDiffusion3"]
    results = []
    for more in ([], [DiffIER(step_size=0.0)]):
        with attach(pipe, [GuiderCallback(COMBINERS["APG"]()), *more]) as attachment:
            results.append(tiny.draw(pipe, steps=4))
            assert attachment.evaluations == 3 * len(more)
    assert torch.equal(*results)


@pytest.mark.parametrize("name", GUIDERS)
def test_nothing_waits_for_the_device(pipes, name):
    family = "DiT" if name in CHANGERS else "StableDiffusion3"
    tiny, pipe = TINY[family], pipes[family]

    def watched(step, proceed):
        with NoSynchronisation():
            return proceed(step)

    with attach(pipe, [GuiderCallback(GUIDERS[name]()), watched]):
        tiny.draw(pipe)


@pytest.mark.parametrize("name", GUIDERS)
def test_guider_callback_survives_json(tmp_path, name):
    callback = GuiderCallback(GUIDERS[name]())
    (loaded,) = load_guidance(save_guidance(tmp_path / "guidance.json", callback))
    assert type(loaded.guider) is type(callback.guider)
    assert json.loads(loaded.guider.to_json_string()) == json.loads(callback.guider.to_json_string())


def test_errors_of_guider_callback(pipes):
    class Own(ClassifierFreeGuidance):
        pass

    with pytest.raises(ValueError, match="cannot be saved"):
        to_config(GuiderCallback(Own()))
    with pytest.raises(ValueError, match="MagnitudeAwareGuidance"):
        from_config([{"callback": "GuiderCallback", "guider": {"_class_name": "Nothing"}}])
    with pytest.raises(TypeError, match="a guider of diffusers"):
        GuiderCallback(RAAG())
    pipe, tiny = pipes["StableDiffusion3"], TINY["StableDiffusion3"]
    with pytest.raises(ValueError, match="only its own pipeline"), attach(pipe, GuiderCallback(LTX2Guidance(4.0, 1.0))):
        tiny.draw(pipe)
    with pytest.raises(MissingUnconditionalError, match="guidance_scale"):  # noqa: SIM117
        with attach(pipe, GuiderCallback(ClassifierFreeGuidance(4.0))):
            tiny.draw(pipe, guided=False)


@pytest.mark.parametrize("family", BLOCKS)
def test_raag_attached_equals_raag_as_guider(pipes, family):
    tiny, pipe = TINY[family], pipes[family]
    with attach(pipe, RAAG(w_max=6, alpha=3)):
        attached = draw(tiny, pipe)
    result = draw_modular(tiny, modular(family, pipe, CallbackGuider(RAAG(w_max=6, alpha=3))))
    # Those that make one call of both halves differ in rounding from the modular pipeline's two calls.
    assert close(result, attached, 3e-6 if family.startswith("Stable") else 0.0)
    assert not close(attached, draw(tiny, pipe), 1e-3)


def test_raag_attached_equals_raag_as_guider_in_float64():
    tiny, pipe = TINY["StableDiffusion3"], TINY["StableDiffusion3"].pipe(torch.float64)
    with attach(pipe, RAAG(w_max=6, alpha=3)):
        attached = draw(tiny, pipe)
    result = draw_modular(tiny, modular("StableDiffusion3", pipe, CallbackGuider(RAAG(w_max=6, alpha=3))))
    assert close(result, attached, 4e-16)


def test_raag_equals_magnitude_aware_guidance(pipes):
    tiny, pipe = TINY["QwenImage"], pipes["QwenImage"]
    ours = draw_modular(tiny, modular("QwenImage", pipe, CallbackGuider(RAAG(w_max=6, alpha=3))))
    theirs = draw_modular(tiny, modular("QwenImage", pipe, MagnitudeAwareGuidance(6.0, alpha=3.0)))
    assert close(ours, theirs, 1e-6)
    for family in ("StableDiffusion3", "StableDiffusionXL", "Wan 2.1"):  # by its formula, flattened
        tiny, pipe = TINY[family], pipes[family]
        with attach(pipe, RAAG(w_max=6, alpha=3)):
            ours = draw(tiny, pipe)
        with attach(pipe, GuiderCallback(MagnitudeAwareGuidance(6.0, alpha=3.0))):
            assert close(draw(tiny, pipe), ours, 1e-6)


def test_callbacks_of_a_guider_get_its_own_guidance(pipes):
    tiny, pipe = TINY["StableDiffusion3"], pipes["StableDiffusion3"]
    expected = draw_modular(tiny, modular("StableDiffusion3", pipe, ClassifierFreeGuidance(4.0, guidance_rescale=0.3)))
    guider = CallbackGuider([CFG(rescale=0.3)], guidance_scale=4.0)
    assert torch.equal(draw_modular(tiny, modular("StableDiffusion3", pipe, guider)), expected)


def test_window_of_callback_guider(pipes):
    tiny, pipe = TINY["StableDiffusion3"], pipes["StableDiffusion3"]
    expected = draw_modular(tiny, modular("StableDiffusion3", pipe, ClassifierFreeGuidance(4.0, start=0.34)))
    guider = CallbackGuider(CFG(4.0), start=0.34)
    assert torch.equal(draw_modular(tiny, modular("StableDiffusion3", pipe, guider)), expected)
    plain = draw_modular(tiny, modular("StableDiffusion3", pipe, CallbackGuider(CFG(4.0), enabled=False)))
    assert close(plain, tiny.draw(pipe, guided=False), 3e-6)


def test_attaching_to_a_modular_pipeline_names_the_guider(pipes):
    pipe = modular("StableDiffusion3", pipes["StableDiffusion3"], CallbackGuider(RAAG()))
    with pytest.raises(ValueError, match=r"is a modular pipeline.*CallbackGuider\(callbacks\)"):
        attach(pipe, RAAG())


def test_modular_pipeline_keeps_callback_guider(pipes, tmp_path):
    tiny, pipe = TINY["StableDiffusion3"], pipes["StableDiffusion3"]
    before = modular("StableDiffusion3", pipe, CallbackGuider([RAAG(6.0, 3.0), CFG(rescale=0.1)], start=0.3))
    before.save_pretrained(str(tmp_path / "saved"), overwrite_modular_index=True)
    (tmp_path / "saved").rename(tmp_path / "moved")
    after = ModularPipeline.from_pretrained(tmp_path / "moved")
    after.load_components()
    assert isinstance(after.guider, CallbackGuider)
    assert to_config(after.guider.callbacks) == to_config(before.guider.callbacks)
    # These blocks would load text encoders too, so the loaded parts are put into those without.
    result = draw_modular(tiny, modular("StableDiffusion3", after, after.guider))
    assert close(result, draw_modular(tiny, before), 1e-6)


def test_callback_guider_by_itself(tmp_path):
    guider = CallbackGuider([RAAG(6.0, 3.0)], guidance_scale=3.0, stop=0.9)
    guider.save_pretrained(tmp_path)
    for other in (CallbackGuider.from_pretrained(tmp_path), guider.new()):
        assert to_config(other.callbacks) == to_config(guider.callbacks)
        assert (other.guidance_scale, other._stop) == (3.0, 0.9)
    for callback, reason in ((lambda step, proceed: step.cond, "plain function"), (CFG(lambda step: 2.0), "weight=")):
        with pytest.raises(ValueError, match=reason):
            CallbackGuider(callback).new().save_pretrained(tmp_path / "none")
    assert not (tmp_path / "none").exists()
    with pytest.raises(TypeError, match="class"):
        CallbackGuider(RAAG)


@pytest.mark.parametrize(
    "callback",
    [
        Trace(),
        lambda step, proceed: 2 * step.sample,
        lambda step, proceed: torch.ones(1) + step.sample,
        lambda step, proceed: step.denoise(step.cond, step.timestep)[0],
    ],
)
def test_callback_guider_says_what_it_cannot_know(pipes, callback):
    pipe = modular("StableDiffusion3", pipes["StableDiffusion3"], CallbackGuider(callback))
    with pytest.raises(RuntimeError, match="neither the sample nor the noise level"):
        draw_modular(TINY["StableDiffusion3"], pipe)
