"""Hostile folders: what somebody could put next to, or in place of, a checkpoint, a reference or a result.

Every folder is a copy of a tiny checkpoint in which a few files were replaced. All of them carry code, or pickles, that
create the file `canary` if anything runs them.
"""

import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from diffusion_guidance.evaluation.study import row_name


Build = Callable[[Path, Path], object]  # the folder, and the canary
KINDS: dict[str, Build] = {}
MODULE = "hostile_module"  # its code lies in every folder, which is on the path


def kind(build: Build) -> Build:
    KINDS[build.__name__] = build
    return build


class Payload:
    """Unpickling it runs code."""

    def __init__(self, canary: Path):
        self.canary = canary

    def __reduce__(self):
        return exec, (code(self.canary),)


def code(canary: Path) -> str:
    return f"open({str(canary)!r}, 'w').close()\n"


def prepare(folder: Path, canary: Path) -> None:
    """What lies in every folder: a module, a pickle, and images, so that each command has something to read."""
    classes = "".join(f"class {name}:\n    pass\n" for name in ("Model", "Pipeline", "Classifier"))
    (folder / f"{MODULE}.py").write_text(code(canary) + classes)
    (folder / "tower.pt").write_bytes(pickle.dumps(Payload(canary)))
    torch.save(Payload(canary), folder / "archive.pt")
    (folder / "images").mkdir()
    draw = np.random.default_rng(0)
    for index in range(2):
        pixels = draw.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{index}.png")
    (folder / "classes.txt").write_text("0\n1\n")


def guidance(folder: Path, **entry) -> None:
    (folder / "guidance.json").write_text(json.dumps([entry]))


def index(folder: Path, **changed) -> None:
    path = folder / "model_index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


def part(folder: Path, name: str, **changed) -> None:
    path = folder / name / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


@kind
def classifier_with_a_pickled_tower(folder, canary):
    spec = {"spec": f"open_clip:ViT-S-32-alt:{folder}/tower.safetensors", "classes": ["a", "b"], "load_weights": False}
    spec |= {"weights_only": False, "pretrained_image_path": str(folder / "tower.pt")}
    guidance(folder, callback="ClassifierGuidance", classifier=spec)


@kind
def classifier_of_a_module(folder, canary):
    guidance(folder, callback="ClassifierGuidance", classifier=f"pretrained:{MODULE}.Classifier:{folder}")


@kind
def classifier_of_a_module_as_a_mapping(folder, canary):
    guidance(folder, callback="ClassifierGuidance", classifier={"spec": f"pretrained:{MODULE}.Classifier:{folder}"})


@kind
def classifier_of_a_function(folder, canary):
    guidance(folder, callback="ClassifierGuidance", classifier="pretrained:os.system:touch")


@kind
def classifier_with_pickled_weights(folder, canary):
    guidance(folder, callback="ClassifierGuidance", classifier=f"torchvision:resnet18:{folder}/tower.pt")


@kind
def classifier_with_a_checkpoint_of_timm(folder, canary):
    spec = {"spec": "timm:vit_tiny_patch16_224", "checkpoint_path": str(folder / "tower.pt")}
    guidance(folder, callback="ClassifierGuidance", classifier=spec)


@kind
def classifier_in_a_folder_of_timm(folder, canary):
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Payload(canary)))
    guidance(folder, callback="ClassifierGuidance", classifier=f"timm:local-dir:{folder}")


@kind
def classifier_with_code_of_its_own(folder, canary):
    (folder / "net").mkdir()
    config = {"model_type": "mine", "architectures": ["Model"]}
    config["auto_map"] = dict.fromkeys(("AutoConfig", "AutoModelForImageClassification"), f"{MODULE}.Model")
    (folder / "net" / "config.json").write_text(json.dumps(config))
    (folder / "net" / f"{MODULE}.py").write_text(code(canary))
    name = "pretrained:transformers.AutoModelForImageClassification"
    guidance(folder, callback="ClassifierGuidance", classifier=f"{name}:{folder}/net")


@kind
def decoder_with_pickled_weights(folder, canary):
    (folder / "decoder").mkdir()
    (folder / "decoder" / "config.json").write_text('{"_class_name": "AutoencoderTiny"}')
    (folder / "decoder" / "diffusion_pytorch_model.bin").write_bytes((folder / "tower.pt").read_bytes())
    guidance(folder, callback="ClassifierGuidance", classifier="torchvision:resnet18", decoder=str(folder / "decoder"))


@kind
def callback_of_a_module(folder, canary):
    guidance(folder, callback=f"{MODULE}.Classifier")


@kind
def callback_with_a_schedule_as_code(folder, canary):
    guidance(folder, callback="CFG", weight=code(canary))


@kind
def deep_guidance(folder, canary):
    (folder / "guidance.json").write_text("[" * 100_000 + "]" * 100_000)


@kind
def guidance_of_huge_numbers(folder, canary):
    (folder / "guidance.json").write_text('[{"callback": "CFG", "weight": 1' + "0" * 5000 + "}]")


@kind
def guidance_of_infinity(folder, canary):
    (folder / "guidance.json").write_text('[{"callback": "CFG", "weight": Infinity, "rescale": NaN}]')


@kind
def class_of_a_file_in_the_folder(folder, canary):
    index(folder, _class_name=[MODULE, "Pipeline"])


@kind
def class_of_a_module(folder, canary):
    index(folder, _class_name=f"{MODULE}.Pipeline")


@kind
def pipeline_file(folder, canary):
    (folder / "pipeline.py").write_text(code(canary) + "from diffusers import DiTPipeline\nclass P(DiTPipeline): ...\n")
    index(folder, _class_name=["pipeline", "P"])


@kind
def part_of_a_module(folder, canary):
    index(folder, transformer=[MODULE, "Model"])


@kind
def part_of_a_file_of_its_own(folder, canary):
    (folder / "transformer" / f"{MODULE}.py").write_text(code(canary) + "class Model: ...\n")
    index(folder, transformer=[MODULE, "Model"])


@kind
def part_of_a_submodule(folder, canary):
    index(folder, vae=["diffusers.utils.testing_utils", "os"])


@kind
def part_with_code_by_auto_map(folder, canary):
    for name, library in (("transformer", "diffusers"), ("vae", "transformers")):
        (folder / name / f"{MODULE}.py").write_text(code(canary) + "class Model: ...\n")
        part(folder, name, auto_map={"AutoModel": f"{MODULE}.Model", "AutoConfig": f"{MODULE}.Model"}, model_type="x")
        index(folder, **{name: [library, "AutoModel"]})


@kind
def weights_that_are_a_pickle(folder, canary):
    for file in folder.rglob("*.safetensors"):
        file.write_bytes((folder / "tower.pt").read_bytes())


@kind
def weights_that_are_an_archive_of_torch(folder, canary):
    for file in folder.rglob("*.safetensors"):
        file.write_bytes((folder / "archive.pt").read_bytes())


@kind
def pickles_in_the_place_of_weights(folder, canary):
    for file in [*folder.rglob("*.safetensors")]:
        file.with_suffix(".bin").write_bytes((folder / "archive.pt").read_bytes())
        file.unlink()


@kind
def weights_in_shards_that_are_pickles(folder, canary):
    for file in [*folder.rglob("diffusion_pytorch_model.safetensors")]:
        weights = {"weight_map": {"x": "../../tower.pt", "y": "tower.pt"}, "metadata": {"total_size": 1}}
        file.with_name(f"{file.name}.index.json").write_text(json.dumps(weights))
        file.with_name("tower.pt").write_bytes((folder / "tower.pt").read_bytes())
        file.unlink()


@kind
def safetensors_with_a_lying_length(folder, canary):
    for file in folder.rglob("*.safetensors"):
        file.write_bytes((1 << 62).to_bytes(8, "little") + b"{}")


@kind
def safetensors_with_lying_offsets(folder, canary):
    head = json.dumps({"x": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}).encode()
    for file in folder.rglob("*.safetensors"):
        file.write_bytes(len(head).to_bytes(8, "little") + head)


@kind
def deep_json_everywhere(folder, canary):
    for file in folder.rglob("*.json"):
        file.write_text('{"a":' * 50_000 + "1" + "}" * 50_000)


@kind
def json_that_is_no_object(folder, canary):
    for number, file in enumerate(sorted(folder.rglob("*.json"))):
        file.write_text(("null", "[]", "NaN", '"text"', "1" + "0" * 5000)[number % 5])


@kind
def statistics_of_objects(folder, canary):
    held = np.array([Payload(canary)], dtype=object)
    np.savez(folder / "reference.npz", mu=held, sigma=held, arr_0=held)


@kind
def statistics_that_are_a_pickle(folder, canary):
    (folder / "reference.npz").write_bytes((folder / "tower.pt").read_bytes())
    (folder / "reference.safetensors").write_bytes((folder / "tower.pt").read_bytes())


@kind
def images_with_a_lying_header(folder, canary):
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (1000000, 1000, 1000, 3)}"
    data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(64)
    with zipfile.ZipFile(folder / "reference.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("arr_0.npy", data)


@kind
def postscript_named_png(folder, canary):
    text = f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n({canary}) (w) file closefile\nshowpage\n"
    (folder / "images" / "0.png").write_text(text)


@kind
def a_result_of_ours_with_pickles(folder, canary):
    """An --out folder, a table and a calibration that somebody hands on."""
    (folder / "run" / "samples").mkdir(parents=True)
    (folder / "run" / "settings.json").write_text('{"seeds": [[0, 1]], "extractor": "digits", "keep": 0}')
    (folder / "run" / "samples" / "00000000-00000002.safetensors").write_bytes((folder / "tower.pt").read_bytes())
    (folder / "table.csv").write_text("path\n")
    (folder / "table.csv.json").write_text('{"identity": "__import__(\'os\')", "fields": null}')
    (folder / "calibration.json").write_text(json.dumps({"identity": MODULE, "threshold": "0", "interval": "ab"}))
    row = {"method": "cfg", "weight": 5.0, "steps": 5, "samples": 2}  # the first that `demo` measures
    shutil.copytree(folder / "run", folder / "demo" / "runs" / row_name(row))


@kind
def results_of_another_shape(folder, canary):
    (folder / "run" / "samples").mkdir(parents=True)
    (folder / "run" / "settings.json").write_text('{"seeds": []}')
    (folder / "table.csv").write_text("path\n")
    (folder / "table.csv.json").write_text("null")
    (folder / "calibration.json").write_text('{"threshold": 1e999, "interval": [NaN, 1], "unsure": [2, 1]}')


@kind
def an_encoder_with_pickles(folder, canary):
    (folder / "config.json").write_text('{"_class_name": "PatchEncoder", "filters": 8}')
    (folder / "diffusion_pytorch_model.bin").write_bytes((folder / "archive.pt").read_bytes())
