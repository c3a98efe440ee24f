import pytest

from diffusion_guidance.attachment.families import find_family
from diffusion_guidance.attachment.watched import networks_of, scheduler_of

from ..tiny import tiny_dit


@pytest.fixture(scope="module")
def pipe():
    return tiny_dit()


def test_all_networks_are_watched_while_the_denoiser_is_not_known(pipe):
    assert networks_of(pipe, None) == {"transformer": pipe.transformer, "vae": pipe.vae}
    assert networks_of(pipe, find_family(pipe)) == {"transformer": pipe.transformer}


def test_a_pipeline_without_what_is_watched_is_refused(pipe):
    class Empty:
        scheduler = None

    with pytest.raises(ValueError, match="Empty has no scheduler with set_timesteps and step"):
        scheduler_of(Empty())
    with pytest.raises(ValueError, match="Empty has no network that guidance could be attached to"):
        networks_of(Empty(), None)
    with pytest.raises(ValueError, match="Empty has no network 'transformer', which its family names"):
        networks_of(Empty(), find_family(pipe))
