"""What belongs to a run of a pipeline: its calls alone, by the timestep in hand, however often, in whatever thread."""

import copy
import pickle
import sys
import threading

import pytest
import torch
from diffusers import DDIMScheduler, DiTPipeline, HeunDiscreteScheduler

from diffusion_guidance import CFG, RAAG, DiffIER, Trace, attach, detach
from diffusion_guidance.attachment.hooks import Hooks
from diffusion_guidance.attachment.replacement import Replacement

from ..tiny import draw_dit, draw_sd3, tiny_dit, tiny_sd3
from ..tiny_families import FAMILIES


@pytest.fixture(scope="module")
def dit():
    return tiny_dit()


def sibling(pipe) -> DiTPipeline:
    """Another pipeline with the same networks and a scheduler of its own."""
    scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config)
    other = DiTPipeline(pipe.transformer, pipe.vae, scheduler)
    other.set_progress_bar_config(disable=True)
    return other


def by_hand(pipe, timesteps, weight: float = 4.0) -> torch.Tensor:
    """A loop as in diffusers' guide, with the pipeline's network and scheduler."""
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    for t in timesteps:
        with torch.no_grad():
            given = {"timestep": t.expand(2), "class_labels": torch.tensor([1, 1000])}
            output = pipe.transformer(torch.cat([x, x]), **given).sample[:, :4]
        cond, uncond = output.chunk(2)
        both = torch.cat([uncond + weight * (cond - uncond)] * 2)
        x = pipe.scheduler.step(both, t, torch.cat([x, x]), return_dict=False)[0].chunk(2)[0]
    return x


def test_a_loop_by_hand_is_guided_in_all_its_steps_after_a_shorter_call(dit):
    """A1: also where it runs twice on the same timesteps."""
    seen = []

    def look(step, proceed):
        seen.append((step.index, step.total))
        return proceed(step)

    with attach(dit, [CFG(2.0), look]):
        draw_dit(dit, steps=4)
        dit.scheduler.set_timesteps(10)
        first = by_hand(dit, dit.scheduler.timesteps)
        again = by_hand(dit, dit.scheduler.timesteps)
    assert seen == [(i, 4) for i in range(4)] + [(i, 10) for i in range(10)] * 2
    assert torch.equal(first, again)
    dit.scheduler.set_timesteps(10)
    torch.testing.assert_close(first, by_hand(dit, dit.scheduler.timesteps, 2.0), atol=1e-5, rtol=0)


def test_levels_of_a_part_of_the_grid_are_those_of_its_timesteps(dit):
    """A2: a loop that ends early, as with SDXL's `denoising_end`."""
    levels = []
    with attach(dit, lambda step, proceed: levels.append(step.sigma / step.alpha) or proceed(step)):
        dit.scheduler.set_timesteps(10)
        by_hand(dit, dit.scheduler.timesteps[:5])
        by_hand(dit, dit.scheduler.timesteps[5:])
    abar = dit.scheduler.alphas_cumprod[dit.scheduler.timesteps]
    torch.testing.assert_close(torch.stack(levels), ((1 - abar) / abar).sqrt())


def test_a_sibling_with_the_same_network_is_not_guided(dit):
    """A4."""
    other = sibling(dit)
    plain = draw_dit(other)
    with attach(dit, RAAG()):
        assert torch.equal(draw_dit(other), plain)
        draw_dit(dit)
        assert torch.equal(draw_dit(other), plain)


def test_a_call_of_the_network_that_is_not_the_pipelines_gets_no_answer(dit):
    """A4: after a run that broke off, a direct call runs the network."""
    given = {"timestep": torch.tensor([500, 500]), "class_labels": torch.tensor([1, 2])}
    sample = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(3))

    def direct():
        with torch.no_grad():
            return dit.transformer(sample, **given).sample

    def stop(step, proceed):
        if step.index == 1:
            raise InterruptedError
        return proceed(step)

    expected = direct()
    with attach(dit, [DiffIER(reuse=True), stop]):
        with pytest.raises(InterruptedError):
            draw_dit(dit)
        assert torch.equal(direct(), expected)


def test_what_is_reused_is_of_the_sample_that_the_sampler_went_to():
    """A5: latents that are replaced after a step."""
    pipe = tiny_sd3()

    def replace(pipe, index, timestep, tensors):
        return {"latents": tensors["latents"] + 1}

    kwargs = {"callback_on_step_end": replace, "callback_on_step_end_tensor_inputs": ["latents"]}
    plain = draw_sd3(pipe, **kwargs)
    with attach(pipe, DiffIER(1, 0.0, reuse=True)) as attachment:
        torch.testing.assert_close(draw_sd3(pipe, **kwargs), plain, atol=1e-5, rtol=0)
        assert attachment.evaluations == 2  # none was spared


def test_a_schedule_counts_the_users_steps_where_each_evaluates_twice():
    """A9."""
    tiny, trace = next(tiny for tiny in FAMILIES if tiny.name == "StableDiffusion"), Trace()
    pipe = tiny.pipe()
    pipe.scheduler = HeunDiscreteScheduler.from_config(pipe.scheduler.config)
    with attach(pipe, [CFG([7.0, 5.0, 3.0, 1.0]), trace], skip=False):
        tiny.draw(pipe, steps=4)
    weights = trace.to_dict()["weight"][:, 0]
    torch.testing.assert_close(weights, torch.tensor([7.0, 5, 5, 3, 3, 1, 1]), atol=1e-2, rtol=0)


def test_copies_and_pickles_of_an_attached_pipelines_parts_are_plain(dit):
    """A11."""
    plain = draw_dit(dit)
    with attach(dit, RAAG()):
        network, scheduler = copy.deepcopy(dit.transformer), copy.deepcopy(dit.scheduler)
        pickled = pickle.loads(pickle.dumps(dit.transformer))
    for each in (network, pickled):
        other = DiTPipeline(each, dit.vae, scheduler)
        other.set_progress_bar_config(disable=True)
        assert torch.equal(draw_dit(other), plain)


def test_detach_takes_off_what_nobody_kept(dit):
    """A12."""
    plain = draw_dit(dit)
    attach(dit, RAAG())
    detach(dit)
    detach(dit)
    assert torch.equal(draw_dit(dit), plain)
    assert not dit.transformer._forward_hooks and not dit.transformer._forward_pre_hooks
    assert not {"step", "set_timesteps"} & set(vars(dit.scheduler))


@pytest.mark.parametrize("kind", [Hooks, Replacement])
def test_an_attachment_that_is_interrupted_half_way_leaves_nothing(dit, monkeypatch, kind):
    """A12."""
    plain, install = draw_dit(dit), kind.install

    def interrupted(self):
        install(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(kind, "install", interrupted)
    with pytest.raises(KeyboardInterrupt):
        attach(dit, RAAG())
    monkeypatch.undo()
    assert not dit.transformer._forward_hooks and not dit.transformer._forward_pre_hooks
    assert not {"step", "set_timesteps"} & set(vars(dit.scheduler))
    assert torch.equal(draw_dit(dit), plain)
    with attach(dit, CFG(4.0)):
        assert torch.equal(draw_dit(dit), plain)


def test_attachments_that_share_a_network_are_undone_in_any_order(dit):
    """A13."""
    other, plain = sibling(dit), draw_dit(dit)
    first, second = attach(dit, RAAG()), attach(other, RAAG())
    first.detach()
    second.detach()
    assert torch.equal(draw_dit(dit), plain) and torch.equal(draw_dit(other), plain)
    assert not dit.transformer._forward_hooks and "forward" not in vars(dit.transformer)


def test_a_wrapper_put_on_meanwhile_stays(dit):
    """A13."""
    plain = draw_dit(dit)
    attachment, calls = attach(dit, RAAG()), []
    step = dit.scheduler.step

    def mine(*args, **kwargs):
        calls.append(1)
        return step(*args, **kwargs)

    dit.scheduler.step = mine
    try:
        attachment.detach()
        assert torch.equal(draw_dit(dit), plain)
        assert dit.scheduler.step is mine and len(calls) == 3
    finally:
        del dit.scheduler.step


@pytest.mark.parametrize("count", [2, 4, 8])
def test_threads_with_one_network_are_all_right_at_once(dit, count):
    """Each with a pipeline of its own, every second attached."""
    pipes = [sibling(dit) for _ in range(count)]
    plain = draw_dit(pipes[0], steps=2)
    with attach(pipes[0], CFG(2.0)):
        guided = draw_dit(pipes[0], steps=2)
    wrong, done, calls = [], [], {2: 40, 4: 16, 8: 12}[count]

    def work(number: int) -> None:
        for _ in range(calls):
            if number % 2:
                result, expected = draw_dit(pipes[number], steps=2), plain
            else:
                with attach(pipes[number], CFG(2.0)):
                    result, expected = draw_dit(pipes[number], steps=2), guided
            if not torch.equal(result, expected):
                wrong.append(number)
        done.append(number)

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not wrong and len(done) == count and not torch.equal(plain, guided)
    assert isinstance(dit.scheduler, DDIMScheduler) and not dit.transformer._forward_hooks


def test_threads_that_attach_to_one_network_at_once_each_keep_their_hook():
    network, wrong = torch.nn.Linear(2, 2), []

    def work() -> None:
        seen: list[int] = []
        try:
            for _ in range(300):
                hooks = Hooks(network, lambda *_: seen.append(1), lambda *_: None)
                hooks.install()
                network(torch.zeros(1, 2))
                hooks.remove()
                if not seen:
                    wrong.append("its hook was lost")
                seen.clear()
        except RuntimeError as error:
            wrong.append(str(error))

    threads = [threading.Thread(target=work, daemon=True) for _ in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    finally:
        sys.setswitchinterval(interval)
    assert not wrong and not network._forward_pre_hooks
