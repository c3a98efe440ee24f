import pytest

from diffusion_guidance import load_pipeline


@pytest.fixture(scope="session")
def shapes():
    return load_pipeline("assets/shapes", device="cpu")
