import functools
import itertools
import math

import pytest
import torch
from scipy.optimize import root

from diffusion_guidance import CFG, RAAG, DiffIER, Trace, attach, parse_guidance, step_error
from diffusion_guidance.methods.diffier import reduced

from ..gaussian import GaussianPipeline
from ..nosync import NoSynchronisation
from ..tiny import draw_sd3, tiny_sd3


MEANS = 1.5 * torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
LABELS = [k % 4 for k in range(32)]


def noise(count: int = 32) -> torch.Tensor:
    return torch.randn(count, 6, generator=torch.Generator().manual_seed(1))


def run(guidance, steps: int, weight: float = 2.0, pipe=None) -> tuple[torch.Tensor, int, Trace]:
    """Final samples, evaluations, and the trace, on the mixture of Gaussians."""
    pipe, trace = pipe or GaussianPipeline(MEANS), Trace(error=True)
    with attach(pipe, [*guidance, trace]) as attachment:
        samples = pipe(LABELS, noise(), steps, weight).images
        return samples, steps + attachment.evaluations, trace


def velocity(x, t: float, label: int, weight: float):
    """Guided exact velocity at one point x (6,) in float64, written independently."""
    means = MEANS.double()
    variance = (1 - t) ** 2 * 0.3**2 + t**2

    def one(indices):
        offset = x - (1 - t) * means[indices]
        share = torch.softmax(-offset.square().sum(-1) / (2 * variance), 0)
        x0 = (share[:, None] * (means[indices] + (1 - t) * 0.09 / variance * offset)).sum(0)
        return (x - x0) / t

    uncond, cond = one([0, 1, 2, 3]), one([label])
    return uncond + weight * (cond - uncond)


@functools.cache
def exact_trajectory() -> torch.Tensor:
    return run([], 4096)[0]


# The closed form.


def test_the_converged_iteration_is_the_implicit_euler_step():
    """x_s = x_t + (s - t) v(x_s, s), solved by scipy, in the first of eight steps and in the fifth."""
    steps, weight = 8, 2.0
    seen = {}

    def watch(step, proceed):
        prediction = proceed(step)
        seen[step.index] = (step.sample.clone(), float(step.sigma))
        return prediction

    run([DiffIER(iterations=60, step_size=0.5), watch], steps, weight)
    for index in (0, 4):
        (start, t), (end, s) = seen[index], seen[index + 1]
        for k in range(6):
            x, label = start[k].double(), LABELS[k]

            def residual(y, x=x, s=s, t=t, label=label):
                y = torch.as_tensor(y)
                return (y - x - (s - t) * velocity(y, s, label, weight)).numpy()

            solved = root(residual, end[k].double().numpy() + 0.1, tol=1e-12)
            assert solved.success
            assert abs(end[k].double() - torch.as_tensor(solved.x)).max() < 1e-5
            assert abs(residual(x.numpy())).max() > 0.1  # the explicit point is not a solution


def test_global_error_falls_with_the_order_that_theory_says():
    """Half of each iteration's slope makes second order (Heun's step), also with reuse; otherwise it is first."""
    reference = exact_trajectory()
    methods = {
        "euler": ([], 1),
        "half": ([DiffIER(1, 0.5)], 2),
        "half, reuse": ([DiffIER(1, 0.5, reuse=True)], 2),
        "whole": ([DiffIER(1, 1.0)], 1),
        "implicit": ([DiffIER(8, 0.7)], 1),
    }
    errors = {}
    for name, (guidance, order) in methods.items():
        coarse, fine = ((run(guidance, n)[0] - reference).norm(dim=1).mean().item() for n in (12, 24))
        errors[name] = fine
        assert order - 0.35 < math.log2(coarse / fine) < order + 0.45, name
    assert errors["half"] < errors["half, reuse"] < errors["euler"] / 5


def test_at_equal_evaluations_it_is_nearer_to_the_exact_trajectory_than_euler():
    reference = exact_trajectory()
    distance = {}
    for name, guidance, steps in (
        ("euler", [], 10),
        ("half", [DiffIER(1, 0.5)], 5),
        ("reuse", [DiffIER(1, 0.5, reuse=True)], 10),
    ):
        samples, evaluations, _ = run(guidance, steps)
        assert evaluations == {"euler": 10, "half": 9, "reuse": 10}[name]
        distance[name] = (samples - reference).norm(dim=1).mean()
    assert distance["half"] < distance["euler"] / 1.5
    assert distance["reuse"] < distance["half"]


def test_one_iteration_of_step_size_a_half_is_heuns_step():
    """The same slopes as a Heun loop written here, except for the last step, which is Euler's."""
    pipe = GaussianPipeline(MEANS)
    pipe.scheduler.set_timesteps(6)
    sigmas = pipe.scheduler.sigmas.double().tolist()
    for k in range(4):
        x = noise()[k].double()
        for t, s in itertools.pairwise(sigmas):
            slope = velocity(x, t, LABELS[k], 2.0)
            if s > 0:
                slope = (slope + velocity(x + (s - t) * slope, s, LABELS[k], 2.0)) / 2
            x = x + (s - t) * slope
        got = run([DiffIER(1, 0.5)], 6)[0][k]
        torch.testing.assert_close(got.double(), x, atol=2e-5, rtol=0)


def largest_slope(steps: int, weight: float) -> float:
    """The Lipschitz constant of p -> D(x_s(p), s), at most, over the points that a run meets."""
    largest = 0.0

    def watch(step, proceed):
        nonlocal largest
        t = float(step.sigma)
        if step.index + 1 < step.total:
            s = float(step.denoiser.scheduler.sigmas[step.index + 1])
            for k in range(8):
                x = step.sample[k].double() + (s - t) * velocity(step.sample[k].double(), t, LABELS[k], weight)
                jacobian = torch.autograd.functional.jacobian(lambda y, s=s, k=k: velocity(y, s, LABELS[k], weight), x)
                assert torch.allclose(jacobian, jacobian.T, atol=1e-8)
                largest = max(largest, torch.linalg.matrix_norm(jacobian, 2).item() * abs(s - t))
        return proceed(step)

    run([watch], steps, weight)
    return largest


def test_accumulated_error_falls_in_every_iteration_below_the_bound_and_not_beyond():
    steps, weight = 10, 1.5
    bound = 2 / (1 + largest_slope(steps, weight))

    def totals(step_size):
        counts = (1, 2, 3, 4, 6)
        runs = [run([], steps, weight), *(run([DiffIER(k, step_size)], steps, weight) for k in counts)]
        return [trace.accumulated_error().mean().item() for _, _, trace in runs]

    below = totals(0.6 * bound)
    assert all(after < before for before, after in itertools.pairwise(below))
    assert below[-1] < below[0] / 20
    beyond = totals(3.0)
    assert beyond[-1] > beyond[0]


def test_reduced_contracts_a_linear_map_as_its_docstring_says():
    matrix = torch.diag(torch.tensor([-4.0, -0.5, 0.3], dtype=torch.float64))  # symmetric, l = 0.3, L = 4
    p = torch.ones(1, 3, dtype=torch.float64)

    def errors(step_size):
        q, found = p, []
        for _ in range(6):
            found.append(step_error(q, q @ matrix).item())
            q = reduced(q, q, q @ matrix, step_size)
        assert q.dtype == torch.float64
        return found

    below, beyond = errors(0.99 * 2 / 5), errors(1.05 * 2 / 5)
    assert all(b < a for a, b in itertools.pairwise(below))
    assert beyond[-1] > beyond[0]


# The callback.


@pytest.mark.parametrize(
    ("iterations", "reuse", "evaluations"), [(1, False, 9), (3, False, 17), (1, True, 5), (3, True, 13)]
)
def test_evaluations_are_counted_exactly(iterations, reuse, evaluations):
    pipe, calls = GaussianPipeline(MEANS), 0

    class Counting(type(pipe.transformer)):
        def forward(self, hidden_states, timestep, labels):
            nonlocal calls
            calls += 1
            return super().forward(hidden_states, timestep, labels)

    pipe.transformer.__class__ = Counting
    samples, counted, _ = run([DiffIER(iterations, 0.5, reuse=reuse)], 5, pipe=pipe)
    assert calls == counted == evaluations
    assert "forward" not in vars(pipe.transformer)
    assert torch.isfinite(samples).all()


def test_reuse_is_the_predictor_corrector_that_it_is_said_to_be():
    """p of a step is what was found at x_s(p) in the step before, not at the sample that was gone to."""
    pipe = GaussianPipeline(MEANS)
    pipe.scheduler.set_timesteps(5)
    sigmas = pipe.scheduler.sigmas.double().tolist()
    got, _, _ = run([DiffIER(1, 0.5, reuse=True)], 5)
    for k in range(4):
        x = noise()[k].double()
        p = velocity(x, sigmas[0], LABELS[k], 2.0)
        for t, s in itertools.pairwise(sigmas):
            if s > 0:
                found = velocity(x + (s - t) * p, s, LABELS[k], 2.0)
                x, p = x + (s - t) * (p + found) / 2, found
        torch.testing.assert_close(got[k].double(), x - t * p, atol=2e-5, rtol=0)


def test_with_step_size_0_reuse_is_plain_sampling_at_the_same_cost():
    plain, evaluations, _ = run([], 6)
    reused, same, _ = run([DiffIER(1, 0.0, reuse=True)], 6)
    torch.testing.assert_close(reused, plain, atol=1e-5, rtol=1e-5)
    assert evaluations == same == 6


def test_a_run_that_broke_off_leaves_no_answer_behind():
    pipe = GaussianPipeline(MEANS)
    plain = pipe(LABELS, noise(), 4, 2.0).images

    def fail(step, proceed):
        prediction = proceed(step)
        if step.index == 1:
            raise InterruptedError
        return prediction

    with attach(pipe, [DiffIER(reuse=True), fail]), pytest.raises(InterruptedError):
        pipe(LABELS, noise(), 4, 2.0)
    assert "forward" not in vars(pipe.transformer)
    assert torch.equal(pipe(LABELS, noise(), 4, 2.0).images, plain)


def test_the_window_and_the_last_step():
    seen = []

    def count(step, proceed):
        seen.append((step.index, step.elsewhere))
        return proceed(step)

    run([count, DiffIER(start=0.5)], 4)
    assert seen == [(0, False), (1, False), (2, False), (2, True), (3, False)]


def test_it_iterates_what_stands_before_it():
    """With RAAG it is the fixed point of RAAG's prediction."""
    seen = []

    def watch(step, proceed):
        prediction = proceed(step)
        if not step.elsewhere:
            seen.append(prediction)
        return prediction

    raag = RAAG(w_max=3, alpha=1)
    _, _, trace = run([raag, DiffIER(40, 0.5), watch], 6)
    _, _, plain = run([raag], 6)
    assert trace.accumulated_error().max() < 1e-6 < 0.01 < plain.accumulated_error().min()


def test_two_of_them_and_their_windows():
    """One inside its window after the other gives one run; nested, the outer one iterates the inner's result."""
    both, evaluations, _ = run([DiffIER(stop=0.5), DiffIER(start=0.5)], 6)
    one, same, _ = run([DiffIER()], 6)
    assert torch.equal(both, one) and evaluations == same
    nested, more, _ = run([DiffIER(1, 0.3), DiffIER(1, 0.3)], 6)
    assert more > same and torch.isfinite(nested).all()


def test_a_window_is_that_of_the_trial_point():
    """At the last step inside the window the trial point lies outside of it, where the pipeline guides by itself."""
    seen = []

    class Seen(CFG):
        def guide(self, step, proceed):
            seen.append(step.index + step.ahead)
            return super().guide(step, proceed)

    run([Seen(1.0, stop=0.5), DiffIER()], 6)
    assert seen == [0, 1, 1, 2, 2]
    seen.clear()
    run([Seen(1.0, start=0.5), DiffIER()], 6)
    assert seen == [3, 3, 4, 4, 5, 5]


def test_an_evaluation_of_an_outer_one_ends_the_reuse_of_an_inner_one():
    """Its prediction is no longer the one whose next sample was evaluated."""
    plain, evaluations, _ = run([DiffIER(1, 0.3), DiffIER(1, 0.3)], 6)
    reused, same, _ = run([DiffIER(1, 0.3, reuse=True), DiffIER(1, 0.3)], 6)
    assert torch.equal(reused, plain) and same == evaluations


def test_tolerance_stops_when_the_error_no_longer_falls():
    _, every, _ = run([DiffIER(30, 0.5)], 6)
    _, stopped, trace = run([DiffIER(30, 0.5, tolerance=0.5)], 6)
    _, _, plain = run([], 6)
    assert stopped < 0.7 * every
    assert trace.accumulated_error().mean() < plain.accumulated_error().mean()
    # A step size beyond the bound: the error rises at once, and every sample goes back to where it was least.
    _, _, wild = run([DiffIER(30, 3.0)], 6)
    _, few, tamed = run([DiffIER(30, 3.0, tolerance=0.0)], 6)
    assert few <= 6 + 2 * 5 + 5
    assert tamed.accumulated_error().mean() <= 1.2 * plain.accumulated_error().mean()
    assert not wild.accumulated_error().mean() < 10 * plain.accumulated_error().mean()


def test_renoise_lowers_the_training_loss_on_its_noise_and_is_independent_of_the_batch():
    errors = []
    for iterations in (1, 6):

        class Last(DiffIER):
            found = ()

            def _renoise(self, step, proceed, current, iteration):
                trial, error, changed = super()._renoise(step, proceed, current, 0)  # one noise for all
                if step.index == 3:
                    Last.found = (*Last.found, error.mean().item())
                return trial, error, changed

        Last.found = ()
        run([Last(iterations, 0.3, objective="renoise")], 8)
        errors.append(Last.found)
    assert errors[1][-1] < 0.7 * errors[1][0]
    pipe = GaussianPipeline(MEANS)
    with attach(pipe, DiffIER(2, 0.3, objective="renoise")):
        together = pipe(LABELS, noise(), 5, 2.0).images
        alone = pipe(LABELS[3:4], noise()[3:4], 5, 2.0).images
        again = pipe(LABELS, noise(), 5, 2.0).images
    torch.testing.assert_close(together[3:4], alone, atol=1e-5, rtol=1e-5)
    assert torch.equal(together, again)


def test_renoise_leaves_the_global_generator_alone():
    state = torch.get_rng_state()
    run([DiffIER(objective="renoise")], 4)
    assert torch.equal(torch.get_rng_state(), state)


def test_it_does_not_synchronise():
    pipe = GaussianPipeline(MEANS)
    callbacks = [CFG(2.0), DiffIER(2, 0.5, reuse=True), Trace(error=True)]

    def watched(callback):
        def guide(step, proceed):
            with NoSynchronisation():
                return callback(step, proceed)

        return guide

    pipe.transformer.forward = torch.compiler.disable(pipe.transformer.forward)
    with attach(pipe, [watched(callback) for callback in callbacks]):
        pipe(LABELS, noise(), 4, 2.0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    full, half = (
        attached_sd3(DiffIER(2, 0.5), torch.float32),
        attached_sd3(DiffIER(2, 0.5), dtype),
    )
    assert half.dtype == dtype
    assert (half.float() - full).abs().max() < 0.05 * full.abs().max()


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_on_a_gpu(dtype):
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    for guidance in (DiffIER(2, 0.5, reuse=True), DiffIER(2, 0.3, objective="renoise"), DiffIER(3, tolerance=0.1)):
        host, device = attached_sd3(guidance, torch.float32), attached_sd3(guidance, dtype, "cuda")
        tolerance = 1e-3 if dtype == torch.float32 else 0.05
        assert (device.float().cpu() - host).abs().max() < tolerance * host.abs().max()


def attached_sd3(guidance, dtype, device: str = "cpu") -> torch.Tensor:
    pipe = tiny_sd3(dtype).to(device)
    size, channels = pipe.transformer.config.sample_size, pipe.transformer.config.in_channels
    # Drawn in float32: some builds of torch draw other numbers in half precision.
    latents = torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(0))
    with attach(pipe, guidance):
        return draw_sd3(pipe, steps=4, weight=2.0, latents=latents.to(device, dtype))


def test_settings_are_kept_and_checked():
    given = parse_guidance("diffier:iterations=2,step_size=0.25,objective=renoise,tolerance=0.1,stop=0.5")
    assert (given.iterations, given.step_size, given.objective, given.tolerance, given.stop) == (
        2,
        0.25,
        "renoise",
        0.1,
        0.5,
    )
    for wrong, said in (
        ({"iterations": 0}, "iterations must be a whole number"),
        ({"step_size": -1}, "step_size must be finite"),
        ({"objective": "loss"}, "pair, renoise"),
        ({"tolerance": 1.0}, "tolerance must be None or in"),
    ):
        with pytest.raises(ValueError, match=said):
            DiffIER(**wrong)
