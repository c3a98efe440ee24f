import pytest
import torch
from safetensors.torch import save_file

from diffusion_guidance.networks.weights import check_weights, read_weights, with_weights


def test_tensors_come_back(tmp_path):
    tensors = {"a": torch.arange(3.0), "b": torch.eye(2)}
    save_file(tensors, tmp_path / "w.safetensors")
    assert all(torch.equal(value, tensors[name]) for name, value in read_weights(tmp_path / "w.safetensors").items())


def test_what_is_wrong_is_told(tmp_path):
    with pytest.raises(ValueError, match="no weights at"):
        check_weights(tmp_path / "missing.safetensors")
    torch.save({"a": torch.zeros(1)}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="must be a safetensors file"):
        read_weights(tmp_path / "w.pth")
    (tmp_path / "broken.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match="cannot read weights"):
        read_weights(tmp_path / "broken.safetensors")


def test_a_failing_library_is_told_in_one_line():
    def build():
        raise OSError("no such\nhost")

    with pytest.raises(ValueError, match="cannot load resnet: no such host; offline, give the path"):
        with_weights("resnet", build)
