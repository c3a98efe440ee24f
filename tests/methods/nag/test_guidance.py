"""NAG in pipelines: against attention written out in a processor, and that nothing is left behind."""

import copy

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from diffusion_guidance import NAG, attach, from_config, to_config

from ...nosync import NoSynchronisation
from ...tiny import draw_sd3, tiny_dit, tiny_sd3
from ...tiny_families import FAMILIES


TINY = {tiny.name: tiny for tiny in FAMILIES}
NAMES = ("StableDiffusionXL", "StableDiffusion3", "Flux", "QwenImage", "Wan 2.1")


def embeddings(tiny, tokens: int | None = None) -> torch.Tensor:
    _, own, width = tiny.inputs()["prompt_embeds"].shape
    return torch.randn(1, tokens or own, width, generator=torch.Generator().manual_seed(5))


class Rewritten:
    """Attention of an image, or of an image and a text, on a batch that holds the prompts and then the negative ones:
    the results for the image are mixed by the formula."""

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, temb=None):
        text = encoder_hidden_states
        if text is not None and hasattr(attn, "add_q_proj") and attn.add_q_proj is not None:
            pairs = ((attn.to_q, attn.add_q_proj), (attn.to_k, attn.add_k_proj), (attn.to_v, attn.add_v_proj))
            joint = [torch.cat([image(hidden_states), of_text(text)], 1) for image, of_text in pairs]
        else:
            other = hidden_states if text is None else text
            joint = [attn.to_q(hidden_states), attn.to_k(other), attn.to_v(other)]
        query, key, value = (one.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for one in joint)
        found = scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        image, rest = found[:, : hidden_states.shape[1]], found[:, hidden_states.shape[1] :]
        if text is not None:
            positive, negative = image.chunk(2)
            guided = 3.0 * positive - 2.0 * negative
            ratio = guided.norm(p=1, dim=-1, keepdim=True) / positive.norm(p=1, dim=-1, keepdim=True)
            guided = guided * ratio.clamp_max(1.1) / ratio
            image = (0.4 * guided + 0.6 * positive).repeat(2, 1, 1)
        image = attn.to_out[1](attn.to_out[0](image))
        if rest.shape[1]:
            return image, rest if attn.context_pre_only else attn.to_add_out(rest)
        return image


def first_prediction(pipe, tiny, *callbacks):
    """The prediction of the first step, and what the network was called with."""
    seen = {}

    def record(step, proceed):
        if step.index == 0:
            seen["prediction"] = step.cond
        return proceed(step)

    calls = []
    network = getattr(pipe, "unet", None) or pipe.transformer
    hook = network.register_forward_pre_hook(lambda _, args, kwargs: calls.append((args, kwargs)), with_kwargs=True)
    with attach(pipe, [*callbacks, record]):
        tiny.draw(pipe, guided=False)
    hook.remove()
    return seen["prediction"], calls[0]


@pytest.mark.parametrize("name", ["StableDiffusionXL", "StableDiffusion3"])
def test_equals_attention_written_out(name):
    tiny = TINY[name]
    pipe, negative = tiny.pipe(), embeddings(tiny)
    found, (args, kwargs) = first_prediction(pipe, tiny, NAG("", 3.0, 1.1, 0.4, negative))
    network = getattr(pipe, "unet", None) or pipe.transformer

    def twice(value):
        if isinstance(value, dict):
            return {key: twice(one) for key, one in value.items()}
        return torch.cat([value, value]) if isinstance(value, torch.Tensor) and value.ndim else value

    kwargs = twice(kwargs)
    kwargs["encoder_hidden_states"][2:] = negative
    network.set_attn_processor(Rewritten())
    with torch.no_grad():
        expected = network(*(twice(one) for one in args), **kwargs)[0][:2]
    assert torch.allclose(found, expected, atol=1e-5)
    plain, _ = first_prediction(tiny.pipe(), tiny)
    assert (found - plain).norm() > 1e-3 * plain.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_runs_in_each_precision_waits_for_nothing_and_leaves_nothing(name, dtype):
    tiny = TINY[name]
    pipe = tiny.pipe(dtype)
    plain = tiny.draw(pipe, guided=False, dtype=dtype)
    before = {key: set(vars(part)) for key, part in modules(pipe)}

    def again(step, proceed):
        if step.index:
            with NoSynchronisation():
                step.denoise(step.sample, step.timestep)
        return proceed(step)

    with attach(pipe, [NAG(negative_prompt_embeds=embeddings(tiny)), again]):
        result = tiny.draw(pipe, guided=False, dtype=dtype)
        copied = copy.deepcopy(pipe)
    if plain.isfinite().all():
        assert result.isfinite().all()
        assert not torch.equal(result, plain)
        assert torch.equal(tiny.draw(pipe, guided=False, dtype=dtype), plain)
        assert torch.equal(tiny.draw(copied, guided=False, dtype=dtype), plain)
    assert {key: set(vars(part)) for key, part in modules(pipe)} == before


def modules(pipe):
    for name, part in pipe.components.items():
        if isinstance(part, torch.nn.Module):
            yield from ((f"{name}.{key}", inner) for key, inner in part.named_modules())


@pytest.mark.parametrize("name", NAMES)
def test_neutral_settings_change_nothing(name):
    tiny = TINY[name]
    pipe = tiny.pipe()
    plain, negative = tiny.draw(pipe, guided=False), embeddings(tiny)
    with attach(pipe, NAG(scale=1.0, negative_prompt_embeds=negative)):
        assert torch.equal(tiny.draw(pipe, guided=False), plain)
    with attach(pipe, NAG(alpha=0.0, negative_prompt_embeds=negative)):
        assert torch.allclose(tiny.draw(pipe, guided=False), plain, rtol=1e-4, atol=1e-4)  # in another batch


def test_the_pipeline_encodes_the_negative_prompt_itself():
    pipe, given = tiny_sd3(), {}
    negative = "a blue star"
    embeds = pipe.encode_prompt([negative], None, None, do_classifier_free_guidance=False, max_sequence_length=2)[0]
    for key, nag in (("text", NAG(negative)), ("embeds", NAG(negative_prompt_embeds=embeds))):
        with attach(pipe, nag):
            given[key] = [draw_sd3(pipe, weight=1.0, num_images_per_prompt=count) for count in (1, 2)]
    assert torch.equal(given["text"][0], given["embeds"][0])
    assert torch.equal(given["text"][1], given["embeds"][1])
    assert not torch.equal(given["text"][0], draw_sd3(pipe, weight=1.0))


def test_a_longer_negative_prompt_is_padded_and_masked():
    tiny = TINY["QwenImage"]
    pipe = tiny.pipe()
    plain = tiny.draw(pipe, guided=False)
    with attach(pipe, NAG(alpha=0.0, negative_prompt_embeds=embeddings(tiny, tokens=9))):
        assert torch.allclose(tiny.draw(pipe, guided=False), plain, rtol=1e-4, atol=1e-4)
    with (
        attach(TINY["Flux"].pipe(), NAG(negative_prompt_embeds=embeddings(TINY["Flux"], tokens=9))) as attachment,
        pytest.raises(ValueError, match=r"takes no mask of tokens; pad one"),
    ):
        TINY["Flux"].draw(attachment.pipe, guided=False)


def test_the_window_ends():
    tiny = TINY["Flux"]
    pipe, negative, traced = tiny.pipe(), embeddings(tiny), {}
    for stop in (0.34, 1.0):
        seen = traced[stop] = []
        watch = lambda step, proceed, seen=seen: seen.append(step.cond) or proceed(step)  # noqa: E731
        with attach(pipe, [NAG(negative_prompt_embeds=negative, stop=stop), watch]):
            tiny.draw(pipe, guided=False)
            traced[stop] = tiny.draw(pipe, guided=False), list(seen)
    plain = tiny.draw(pipe, guided=False)
    assert torch.equal(traced[0.34][1][0], traced[1.0][1][0])
    assert not torch.equal(traced[0.34][1][2], traced[1.0][1][2])
    assert not torch.equal(traced[0.34][0], plain)


def test_another_pipeline_with_the_same_network_is_not_guided():
    tiny = TINY["Flux"]
    pipe = tiny.pipe()
    other = type(pipe)(**{**pipe.components, "scheduler": copy.deepcopy(pipe.scheduler)})
    other.set_progress_bar_config(disable=True)
    plain = tiny.draw(other, guided=False)
    with attach(pipe, NAG(negative_prompt_embeds=embeddings(tiny))):
        assert not torch.equal(tiny.draw(pipe, guided=False), plain)
        assert torch.equal(tiny.draw(other, guided=False), plain)


def test_what_does_not_fit_is_refused():
    pipe, nag = tiny_sd3(), NAG("a blue star")
    with attach(pipe, nag):
        with pytest.raises(ValueError, match="is for calls without classifier-free guidance"):
            draw_sd3(pipe, weight=5.0)
        with pytest.raises(RuntimeError, match="make one for each"):
            attach(tiny_sd3(), nag)
    with pytest.raises(ValueError, match="has no encode_prompt"):
        attach(tiny_dit(), NAG("a blue star"))
    lumina = TINY["Lumina2"]
    with (
        attach(lumina.pipe(), NAG(negative_prompt_embeds=embeddings(lumina))) as attachment,
        pytest.raises(ValueError, match="past the attentions that NAG knows"),
    ):
        lumina.draw(attachment.pipe, guided=False)
    with pytest.raises(ValueError, match="alpha <= 1"):
        NAG(alpha=2.0)


def test_settings_are_written_and_read():
    made = [NAG("blurry", 4.0, stop=0.5)]
    assert to_config(from_config(to_config(made))) == to_config(made)
