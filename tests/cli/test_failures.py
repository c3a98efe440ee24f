"""Bad input ends in one sentence and exit code 2: a table of bad calls for each command, run in one process."""

import json
import os
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import SafetensorError

from diffusion_guidance import assets_folder
from diffusion_guidance.cli.command import COMMANDS, main
from diffusion_guidance.cli.failures import guarded, is_bad_input
from diffusion_guidance.networks.patch_encoder import PatchEncoder

from ..tiny import tiny_dit, tiny_sd3


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Small pipelines, an encoder, images, and files that are not what they seem; the working directory of the test."""
    folder = tmp_path_factory.mktemp("world")
    sd3 = tiny_sd3()
    sd3.vae.register_to_config(shift_factor=0.0)
    sd3.save_pretrained(folder / "sd3")
    tiny_dit().save_pretrained(folder / "dit")
    PatchEncoder(filters=8).save_pretrained(folder / "encoder")
    draw = np.random.default_rng(0)
    (folder / "empty").mkdir()
    for name, size in (("real", (20, 24, 3)), ("scenes", (32, 32, 3))):
        (folder / name).mkdir()
        for index in range(80):
            Image.fromarray(draw.integers(0, 256, size, dtype=np.uint8)).save(folder / name / f"{index:02}.png")
    bad_files(folder)
    return folder


def bad_files(folder: Path) -> None:
    (folder / "mine.csv").write_text("years of work\n")
    (folder / "latin.txt").write_bytes("größer".encode("latin-1"))
    (folder / "blank.txt").write_text(" \n\n")
    (folder / "deep.json").write_text("[" * 100_000)
    (folder / "list.json").write_text("[]")
    (folder / "null.json").write_text("null")
    (folder / "damaged.json").write_text('{"a": ')
    (folder / "module.py").write_text("value = 1\n")
    (folder / "file").write_text("x")
    for name, content in (("listed", "[]"), ("nulled", "null"), ("damaged", '{"a": ')):
        (folder / name).mkdir()
        (folder / name / "settings.json").write_text(content)
    header = b"\x93NUMPY\x01\x00" + struct.pack("<H", 118)
    lies = "{'descr': '|u1', 'fortran_order': False, 'shape': (99999999, 9999, 9999, 3), }".ljust(117).encode() + b"\n"
    with zipfile.ZipFile(folder / "bomb.npz", "w") as archive:
        archive.writestr("arr_0.npy", header + lies)
    (folder / "not.npz").write_bytes(b"PK\x03\x04 not a zip file")
    (folder / "lying.safetensors").write_bytes(struct.pack("<Q", 2**62) + b"{}")
    index = json.loads((folder / "sd3" / "model_index.json").read_text())
    for name, kind in (("classlist", ["module", "Class"]), ("classnone", "NonesuchPipeline")):
        (folder / name).mkdir()
        (folder / name / "model_index.json").write_text(json.dumps(index | {"_class_name": kind}))
    (folder / "huge.png").write_bytes(huge_png())
    bad_sides(folder)
    bad_results(folder)


def bad_sides(folder: Path) -> None:
    """Sides of a comparison that are not what they have to be."""
    for name, arrays in {
        "float": {"arr_0": np.zeros((4, 32, 32, 3), np.float32)},
        "grey": {"arr_0": np.zeros((4, 32, 32), np.uint8)},
        "none": {"arr_0": np.zeros((0, 32, 32, 3), np.uint8)},
        "other": {"features": np.zeros((4, 3))},
        "nan": {"mu": np.full(3, np.nan), "sigma": np.eye(3)},
        "shape": {"mu": np.zeros(3), "sigma": np.eye(4)},
        "skew": {"mu": np.zeros(3), "sigma": np.arange(9.0).reshape(3, 3)},
        "three": {"mu": np.zeros(3), "sigma": np.eye(3)},
        "objects": {"mu": np.array([{}], dtype=object), "sigma": np.eye(1)},
    }.items():
        np.savez(folder / f"{name}.npz", **arrays)
    (folder / "cut.npz").write_bytes((folder / "three.npz").read_bytes()[:300])
    for name in ("mixed", "few", "broken", "copies"):
        (folder / name).mkdir()
    draw = np.random.default_rng(1)
    for index, side in enumerate((16, 16, 20)):
        Image.fromarray(draw.integers(0, 256, (side, 16, 3), dtype=np.uint8)).save(folder / "mixed" / f"{index}.png")
        Image.fromarray(draw.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(folder / "few" / f"{index}.png")
        (folder / "broken" / f"{index}.png").write_bytes(b"no image")
    for index in range(80):
        os.link(folder / "real" / "00.png", folder / "copies" / f"{index:02}.png")
    for name, settings in (("unfinished", '{"seeds": [[0, 63]]}'), ("seedless", "{}")):
        (folder / name / "samples").mkdir(parents=True)
        (folder / name / "settings.json").write_text(settings)


def bad_results(folder: Path) -> None:
    """Calibrations, tables and guidance that cannot be of ours."""
    whole = {"threshold": 0.5, "interval": [0, 1], "unsure": [0, 1], "false_positive_rate": 0.05, "samples": 80}
    foreign = {"encoder": "other", "noise": "loud", "draws": [], "method": None}
    for name, changed in {
        "nan": {"threshold": float("nan")},
        "reversed": {"interval": [1, 0]},
        "short": {"unsure": [0]},
        "foreign": {"identity": foreign},
        "magic": {"identity": {"method": "magic"}},
    }.items():
        (folder / f"{name}.json").write_text(json.dumps({**whole, "identity": {}, **changed}))
    for name, settings in (("theirs", "[]"), ("half", "{"), ("older", '{"identity": 1}')):
        (folder / f"{name}.csv").write_text("path\n")
        (folder / f"{name}.csv.json").write_text(settings)
    (folder / "numbers.json").write_text("[1, 2]")
    (folder / "unknown.json").write_text('[{"callback": "Nonesuch"}]')
    (folder / "extra.json").write_text('[{"callback": "RAAG", "beta": 1}]')
    (folder / "pickle.bin").write_bytes(b"\x80\x04.")


def huge_png() -> bytes:
    """A PNG whose header says 60,000 by 60,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


SD3 = ["sd3", "--prompt", "x", "--steps", "1", "--out", "new"]
GENERATE = [
    (["sd3"], "one of the arguments --prompt --prompts --classes --from is required"),
    (["sd3", "--prompt", "x", "--promts", "y"], "unrecognized arguments: --promts"),
    (["sd3", "--prompt", "x", "--classes", "1"], "not allowed with argument"),
    (["nothing", "--prompt", "x"], "cannot load a pipeline from 'nothing'"),
    (["classlist", "--prompt", "x"], "code of its own; it is not run"),
    (["classnone", "--prompt", "x"], "has a pipeline 'NonesuchPipeline'"),
    (["sd3", "--prompts", "missing.txt"], "cannot read prompts from missing.txt"),
    (["sd3", "--prompts", "blank.txt"], "blank.txt holds no prompt"),
    (["sd3", "--prompts", "latin.txt"], "not text in UTF-8"),
    (["sd3", "--prompts", "real"], "cannot read prompts from real"),
    (["sd3", "--classes", ""], "cannot read class ids ''"),
    (["sd3", "--classes", "a"], "cannot read class ids 'a'"),
    (["sd3", "--classes", "1"], "takes no class_labels; give --prompt"),
    (["dit", "--prompt", "x"], "takes no prompt; give --classes"),
    (["dit", "--classes", "99999", "--out", "new"], "class ids from 0 to"),
    ([*SD3, "--seeds", "9-1"], "run backwards"),
    ([*SD3, "--seeds", "0-99999999999"], "10,000,000 at most"),
    ([*SD3, "--seeds", "1,1"], "name a number twice"),
    ([*SD3, "--steps", "0"], "must be at least 1, got 0"),
    ([*SD3, "--steps", "1.5"], "'1.5' is not a whole number"),
    ([*SD3, "--batch-size", "-1"], "must be at least 1, got -1"),
    ([*SD3, "--weight", "nan"], "must be a finite number, got nan"),
    ([*SD3, "--device", "foo"], "--device foo cannot be used here"),
    ([*SD3, "--device", "meta:x"], "--device meta:x cannot be used here"),
    ([*SD3, "--dtype", "int8"], "invalid choice: 'int8'"),
    ([*SD3, "--call", "x"], "write NAME=VALUE"),
    ([*SD3, "--call", "output_type=np"], "--call output_type= is set by this command"),
    ([*SD3, "--call", "generator=1"], "--call generator= is set by this command; use --seeds"),
    ([*SD3, "--call", "prompt=x"], "--call prompt= is set by this command; use --prompt"),
    ([*SD3, "--call", "return_dict=false"], "--call return_dict= is set by this command"),
    ([*SD3, "--call", "nonesuch=1"], "takes no argument nonesuch"),
    ([*SD3, "--call", "max_sequence_length=many"], "--call max_sequence_length"),
    ([*SD3, "--call", "height=7"], "divisible"),
    ([*SD3, "--call", "sigmas=" + "[" * 100_000], "nested deeper"),
    ([*SD3, "--guidance", "magic"], "unknown guidance 'magic'"),
    ([*SD3, "--guidance", "raag:w_max"], "write NAME:ARGUMENT=VALUE"),
    ([*SD3, "--guidance", "raag:alpha=-1"], "alpha >= 0"),
    ([*SD3, "--guidance", "missing_module:Class"], "cannot import 'missing_module'"),
    ([*SD3, "--guidance", "json:Nonesuch"], "json has no 'Nonesuch'"),
    ([*SD3, "--guidance", "json:JSONDecoder:strict=true"], "is not a subclass of diffusion_guidance.Callback"),
    ([*SD3, "--guidance", "ClassifierFreeGuidance:nonesuch=1"], "nonesuch"),
    ([*SD3, "--weight", "1", "--guidance", "raag"], "needs the unconditional prediction"),
    ([*SD3, "--guidance-file", "missing.json"], "cannot read guidance from missing.json"),
    ([*SD3, "--guidance-file", "deep.json"], "deep"),
    ([*SD3, "--guidance-file", "null.json"], "null.json"),
    ([*SD3, "--out", "listed"], "settings.json"),
    ([*SD3, "--out", "nulled"], "settings.json"),
    ([*SD3, "--out", "damaged"], "settings.json"),
    ([*SD3, "--out", "file"], "file"),
    ([*SD3, "--out", ""], "argument --out: an empty path"),
    ([*SD3, "--device", "meta"], "--device meta cannot be used here"),
    ([*SD3, "--guidance-file", "numbers.json"], "got 1"),
]
WEIGHTS = "dit/transformer/diffusion_pytorch_model.safetensors"
RUN = ["run", "sd3", "--world", "shapes", "--seeds", "0-1", "--steps", "1", "--world-samples", "50", "--out", "new"]
DIT = ["run", "dit", "--classes", "1", "--seeds", "0-1", "--steps", "1", "--extractor", "digits", "--out", "new"]
SWEEP = ["sweep", "sd3", "--world", "shapes", "--seeds", "0-1", "--out", "new"]
SCORE = ["score", "real", "real", "--out", "new"]


def scored(images: str, reference: str, *more: str) -> list[str]:
    return ["score", images, reference, "--extractor", "shapes", "--out", "new", *more]


EVALUATE = [
    ([], "the following arguments are required: command"),
    (["measure"], "invalid choice: 'measure'"),
    (["run", "sd3", "--seeds", "0-1", "--out", "new"], "is required"),
    (["run", "sd3", "--prompts", "mine.csv", "--seeds", "0-1", "--out", "new"], "--extractor is needed"),
    ([*RUN, "--seeds", "9-0"], "run backwards"),
    ([*RUN, "--steps", "0"], "must be at least 1"),
    ([*RUN, "--batch-size", "0"], "must be at least 1"),
    ([*RUN, "--world-samples", "1"], "must be at least 2"),
    ([*RUN, "--guidance", "nonesuch"], "unknown guidance 'nonesuch'"),
    ([*RUN, "--reference", "/absent"], "/absent"),
    ([*RUN, "--call", "x"], "write NAME=VALUE"),
    ([*RUN, "--call", "nonesuch=1"], "nonesuch"),
    ([*RUN, "--weight", "inf"], "must be a finite number"),
    ([*RUN, "--device", "foo"], "--device foo cannot be used here"),
    ([*RUN, "--extractor", "clip"], "--world brings its own extractor"),
    ([*RUN, "--measure", "beauty"], "invalid choice: 'beauty'"),
    ([*RUN, "--score", "beauty"], "a score is package.module:function"),
    ([*RUN, "--score", "missing_module:f"], "--score cannot import 'missing_module'"),
    ([*RUN, "--score", "json:nonesuch"], "json has no 'nonesuch'"),
    ([*RUN, "--score", "json:dumps"], "json:dumps is not a function of (images, prompts)"),
    ([*RUN, "--score", "hps"], "hps needs its weights"),
    ([*RUN, "--score", "image-reward"], "ImageReward unpickles its weights"),
    ([*RUN, "--score", "operator:ne"], "the score ne gave"),
    ([*RUN, "--score", "operator:matmul"], "the score matmul failed (TypeError"),
    ([*SCORE, "--extractor", "shapes", "--score", "json:dumps"], "unrecognized arguments: --score"),
    ([*RUN, "--out", "damaged"], "settings.json"),
    (["sweep", *RUN[1:], "--weights", "1,x", "--method", "none"], "'x' is not a number"),
    (["sweep", *RUN[1:], "--weights", "1", "--method", "raag:w={weight}"], "raag has no argument w"),
    (SCORE, "extractor"),
    ([*SCORE, "--extractor", "nonesuch"], "nonesuch"),
    ([*SCORE, "--extractor", "shapes"], "32"),
    (["score", "missing", "scenes", "--extractor", "shapes", "--out", "new"], "missing"),
    (["score", "empty", "scenes", "--extractor", "shapes", "--out", "new"], "empty"),
    (["score", "real", "bomb.npz", "--extractor", "shapes", "--out", "new"], "bomb.npz"),
    (["score", "real", "not.npz", "--extractor", "shapes", "--out", "new"], "not.npz"),
    (["score", "real", "lying.safetensors", "--extractor", "shapes", "--out", "new"], "lying.safetensors"),
    (["run", "nothing", *RUN[2:]], "cannot load a pipeline from 'nothing'"),
    (["run", "classlist", *RUN[2:]], "code of its own; it is not run"),
    ([*RUN, "--seeds", "0-99999999999"], "10,000,000 at most"),
    ([*RUN, "--seeds", "x"], "cannot read seeds 'x'"),
    ([*RUN, "--dtype", "int8"], "invalid choice: 'int8'"),
    (["run", "sd3", "--world", "shapes", "--out", "new"], "required: --seeds"),
    (["run", "sd3", "--world", "shapes", "--seeds", "0"], "required: --out"),
    (["run", "sd3", "--world", "moon", "--seeds", "0", "--out", "new"], "invalid choice: 'moon'"),
    ([*RUN, "--weight", "1", "--guidance", "raag"], "needs the unconditional prediction"),
    ([*RUN, "--weight", "heavy"], "'heavy' is not a number"),
    ([*RUN, "--batch-size", "many"], "'many' is not a whole number"),
    ([*RUN, "--prompts", "mine.csv"], "not allowed with argument --world"),
    ([*RUN, "--guidance-file", "missing.json"], "cannot read guidance from missing.json"),
    ([*RUN, "--guidance-file", "deep.json"], "nested deeper"),
    ([*RUN, "--guidance-file", "numbers.json"], "got 1"),
    ([*RUN, "--guidance-file", "unknown.json"], "unknown guidance 'Nonesuch'"),
    ([*RUN, "--guidance-file", "extra.json"], "no argument beta"),
    ([*RUN, "--guidance", "raag", "--guidance-file", "list.json"], "not allowed with argument"),
    ([*RUN, "--call", "output_type=np"], "is set by this command"),
    ([*RUN, "--call", "height=7"], "divisible"),
    ([*RUN, "--call", "max_sequence_length=many"], "--call max_sequence_length"),
    ([*RUN, "--out", "file"], "file"),
    ([*RUN, "--out", ""], "argument --out: an empty path"),
    ([*RUN, "--out", "real"], "holds images, such as 00.png"),
    ([*RUN, "--reference", "three.npz"], "64 dimensions cannot be compared with a reference of 3"),
    (["run", "dit", "--world", "digits", *DIT[4:8], "--out", "new"], "8, 8"),
    (["run", "sd3", "--prompts", "missing.txt", *DIT[4:]], "cannot read prompts from missing.txt"),
    (["run", "sd3", "--prompts", "blank.txt", *DIT[4:]], "blank.txt holds no prompt"),
    (["run", "dit", "--prompts", "mine.csv", *DIT[4:]], "takes no prompt; give --classes"),
    (["run", "sd3", *DIT[2:]], "takes no class_labels; give --prompt"),
    ([*DIT, "--classes", "99999"], "class ids from 0 to"),
    ([*DIT, "--classes", ""], "cannot read class ids ''"),
    ([*DIT, "--extractor", ""], "an extractor is written"),
    ([*DIT, "--extractor", "inception:lying.safetensors"], "cannot read weights from lying.safetensors"),
    ([*DIT, "--extractor", "inception:pickle.bin"], "must be a safetensors file, not pickle.bin"),
    ([*DIT, "--extractor", "dinov2:missing.safetensors"], "no weights at missing.safetensors"),
    ([*DIT, "--extractor", "pretrained:os.system:x"], "an extractor is written"),
    ([*DIT, "--measure", "kid"], "kid needs a reference"),
    ([*DIT, "--reference", "three.npz", "--measure", "kid"], "it has statistics only"),
    (SWEEP, "required: --method, --weights"),
    ([*SWEEP, "--weights", "", "--method", "none"], "'' is not a number"),
    ([*SWEEP, "--weights", "nan", "--method", "none"], "must be a finite number"),
    ([*SWEEP, "--weights", "1", "--method", ""], "unknown guidance ''"),
    ([*SWEEP, "--weights", "1", "--method", "{"], "unknown guidance '{'"),
    ([*SWEEP, "--weights", "1", "--method", "unknown.json"], "unknown guidance 'Nonesuch'"),
    ([*SWEEP, "--weights", "1", "--method", "raag:w_max={wieght}"], "raag: must be real number"),
    ([*SWEEP, "--weights", "1", "--method", "none", "--steps", "0"], "must be at least 1"),
    ([*SWEEP, "--weights", "1", "--method", "none", "--call", "nonesuch=1"], "takes no argument nonesuch"),
    ([*SWEEP, "--weights", "1", "--method", "none", "--guidance", "raag"], "unrecognized arguments: --guidance"),
    (scored("scenes", "missing"), "there is no missing"),
    (scored("", "scenes"), "an empty path"),
    (scored("file", "scenes"), "file"),
    (scored("float.npz", "scenes"), "must be (N, H, W, 3) uint8"),
    (scored("grey.npz", "scenes"), "must be (N, H, W, 3) uint8"),
    (scored("none.npz", "scenes"), "must be (N, H, W, 3) uint8, got (0, 32, 32, 3)"),
    (scored("other.npz", "scenes"), "other.npz holds features"),
    (scored("three.npz", "scenes"), "three.npz holds mu, sigma"),
    (scored("mixed", "scenes"), "differ in size (2 of 16 x 16, 1 of 16 x 20)"),
    (scored("broken", "scenes"), "no images in broken that can be read"),
    (scored("unfinished", "scenes"), "lacks 64 samples"),
    (scored("seedless", "scenes"), "is not of a run"),
    (scored("few", "few", "--measure", "kid"), "at least 4 samples are needed"),
    (scored("scenes", "nan.npz"), "must be finite"),
    (scored("scenes", "shape.npz"), "does not go with sigma"),
    (scored("scenes", "skew.npz"), "sigma symmetric"),
    (scored("scenes", "three.npz"), "64 and 3 dimensions"),
    (scored("scenes", "objects.npz"), "nothing is unpickled"),
    (scored("scenes", "cut.npz"), "cannot read cut.npz"),
    (scored("scenes", WEIGHTS), "cannot read moments"),
    (scored("scenes", "scenes", "--device", "meta"), "--device meta cannot be used here"),
    (scored("scenes", "scenes", "--batch-size", "0"), "must be at least 1"),
    (scored("scenes", "scenes", "--out", "scenes/deep"), "lies in the folder of the images"),
    (scored("scenes", "scenes", "--save-statistics", "x.txt"), "--save-statistics ends in .safetensors"),
    (["score", "scenes", "--extractor", "shapes", "--out", "new"], "required: reference"),
]
CALIBRATE = [
    (["dit", "resnet50"], "LIBRARY:NAME"),
    (["nothing"], "cannot load a pipeline from 'nothing'"),
    (["sd3"], "give --classes or --prompts"),
    (["dit", "--classes", ""], "cannot read class ids"),
    (["dit", "--samples", "1"], "must be at least 2"),
    (["dit", "--out", "report.csv"], "ends in .json"),
    (["dit", "--ratio", "x"], "'x' is not a number"),
    (["dit", "--device", "foo"], "--device foo cannot be used here"),
    (["dit", "--steps", "0"], "must be at least 1"),
    (["dit", "--weight", "nan"], "must be a finite number"),
    (["dit", "--ratio", "-1"], "--ratio is in [0, 1], got -1"),
    (["dit", "--ratio", "nan"], "must be a finite number"),
    (["dit", "--softplus", "-1"], "softplus"),
    (["dit", "--samples", "many"], "'many' is not a whole number"),
    (["dit", "--batch-size", "0"], "must be at least 1"),
    (["dit", "--dtype", "int8"], "invalid choice: 'int8'"),
    (["dit", "--transform", "magic"], "invalid choice: 'magic'"),
    (["dit", "--classes", "5-1"], "run backwards"),
    (["dit", "--classes", "0,0"], "name a number twice"),
    (["dit", "--classes", "99999"], "class ids from 0 to"),
    (["sd3", "--classes", "1"], "takes no class_labels; give --prompt"),
    (["dit", "--prompts", "mine.csv"], "takes no prompt; give --classes"),
    (["dit", "--prompts", "mine.csv", "--classes", "1"], "not allowed with argument"),
    (["sd3", "--prompts", "blank.txt"], "blank.txt holds no prompt"),
    (["sd3", "--prompts", "mine.csv"], "classes are for open_clip models"),
    (["classlist"], "code of its own; it is not run"),
    (["dit", "--out", ""], "an empty path"),
    (["dit", "--work", "file", "--out", "new/c.json"], "file"),
    (["dit", "--guidance", "raag"], "unrecognized arguments: --guidance raag"),
    (["dit", "", "--work", "new", "--steps", "1"], "8, 8"),
    (["dit", "magic:x"], "a classifier is written"),
    (["dit", "torchvision:nonesuch"], "Unknown model nonesuch"),
    (["dit", "torchvision:resnet18:missing.safetensors"], "no weights at missing.safetensors"),
    (["dit", "torchvision:resnet18:lying.safetensors"], "cannot read weights from lying.safetensors"),
    (["dit", "torchvision:resnet18:pickle.bin"], "must be a safetensors file, not pickle.bin"),
    (["dit", "timm:nonesuch"], "Unknown model (nonesuch)"),
    (["dit", "open_clip:nonesuch:x"], "no weights at x"),
    (["dit", "pretrained:os.system:x"], "os.system is not a class of networks"),
    (["dit", "pretrained:diffusion_guidance.worlds.DigitsClassifier:dit"], "config.json"),
    (["dit", "efficientnet_lite:lite9"], "lite9"),
]
ENCODER = ["--encoder", "local:encoder"]
DETECT = [
    ([], "the following arguments are required: command"),
    (["measure", "real"], "required: FAKE, --out"),
    (["measure", "missing", "scenes", *ENCODER, "--out", "new"], "no file or folder missing"),
    (["measure", "real", "missing*", *ENCODER, "--out", "new"], "nothing matches"),
    (["measure", "real", "empty", *ENCODER, "--out", "new"], "no files in empty"),
    (["measure", "real", "scenes", *ENCODER, "--out", "file"], "file"),
    (["measure", "real", "scenes", *ENCODER, "--out", ""], "an empty path"),
    (["measure", "real", "scenes", *ENCODER, "--out", "new", "--max-pixels", "999999999"], "Pillow itself"),
    (["measure", "real", "scenes", *ENCODER, "--out", "new", "--draws", "0"], "must be at least 1"),
    (["measure", "real", "scenes", "--encoder", "magic:x", "--out", "new"], "magic"),
    (["measure", "real", "real/0*.png", *ENCODER, "--out", "new"], "10 images are real and generated at once"),
    (["measure", "real/0*.png", "module.py", *ENCODER, "--out", "new"], "none of the generated images could be scored"),
    (["score", "missing", *ENCODER], "no file or folder missing"),
    (["score", "real", "missing*", *ENCODER], "nothing matches"),
    (["score", "empty", *ENCODER], "no files"),
    (["score", "real", *ENCODER, "--batch-size", "0"], "must be at least 1"),
    (["score", "real", *ENCODER, "--max-pixels", "999999999"], "Pillow itself"),
    (["score", "real", *ENCODER, "--out", "x.txt"], ".csv or .jsonl"),
    (["score", "real", *ENCODER, "--out", "mine.csv"], "mine.csv"),
    (["score", "real", *ENCODER, "--out", "mine.csv", "--overwrite"], "mine.csv"),
    (["score", "real", *ENCODER, "--calibration", "mine.csv"], "cannot read a calibration"),
    (["score", "real", *ENCODER, "--calibration", "deep.json"], "deep.json"),
    (["score", "real", "--encoder", "local:missing"], "missing"),
    (["score", "real", "--encoder", "magic:x"], "magic"),
    (["score", "real", *ENCODER, "--draws", "0"], "must be at least 1"),
    (["score", "real", *ENCODER, "--size", "-5"], "must be at least 1"),
    (["score", "real", *ENCODER, "--size", "1"], "1"),
    (["score", "real", *ENCODER, "--device", "foo"], "--device foo cannot be used here"),
    (["score", "real", *ENCODER, "--noise", "nan"], "must be a finite number"),
    (["calibrate", "real", *ENCODER, "--out", "c.csv"], "ends in .json"),
    (["calibrate", "real", *ENCODER, "--out", "c.json", "--false-positive-rate", "2"], "false-positive rate"),
    (["score"], "required: PATH"),
    (["score", "", *ENCODER], "no file or folder"),
    (["score", "real/[", *ENCODER], "nothing matches"),
    (["score", "real", "missing", *ENCODER], "no file or folder missing"),
    (["score", "real", "--encoder", ""], "an encoder is written"),
    (["score", "real", "--encoder", "local:"], "an encoder is written"),
    (["score", "real", "--encoder", "local:empty"], "no encoder in empty"),
    (["score", "real", "--encoder", "local:file"], "no encoder in file"),
    (["score", "real", "--encoder", "local:dit"], "no encoder in dit"),
    (["score", "real", "--encoder", "torchvision:nonesuch"], "no model 'nonesuch'"),
    (["score", "real", "--encoder", "torchvision:resnet18:missing"], "no weights at missing"),
    (["score", "real", "--encoder", "torchvision:resnet18:lying.safetensors"], "cannot read weights"),
    (["score", "real", "--encoder", "torchvision:resnet18:pickle.bin"], "must be a safetensors file"),
    (["score", "real", "--encoder", f"torchvision:resnet18:{WEIGHTS}"], "state_dict"),
    (["score", "real", "--encoder", "timm:nonesuch"], "Unknown model (nonesuch)"),
    (["score", "real", "--encoder", "timm:resnet18:pickle.bin"], "must be a safetensors file"),
    (["score", "real", "--encoder", "open_clip:nonesuch:x"], "no model 'nonesuch'"),
    (["score", "real", "--encoder", "open_clip:ViT-B-32"], "several weights"),
    (["score", "real", *ENCODER, "--calibration", "list.json"], "cannot read a calibration"),
    (["score", "real", *ENCODER, "--calibration", "missing.json"], "cannot read a calibration"),
    (["score", "real", *ENCODER, "--calibration", "nan.json"], "NaN"),
    (["score", "real", *ENCODER, "--calibration", "reversed.json"], "in order"),
    (["score", "real", *ENCODER, "--calibration", "short.json"], "cannot read a calibration"),
    (["score", "real", *ENCODER, "--calibration", "foreign.json"], "of a detector with another"),
    (["score", "real", *ENCODER, "--calibration", "magic.json"], "'magic'"),
    (["score", "real", *ENCODER, "--calibration", "huge.png"], "cannot read a calibration"),
    (["score", "real", *ENCODER, "--calibration", "real"], "cannot read a calibration"),
    (["score", "real", *ENCODER, "--noise", "0"], "noise must be above 0"),
    (["score", "real", *ENCODER, "--draws", "1.5"], "'1.5' is not a whole number"),
    (["score", "real", *ENCODER, "--draws", "1000000000000000"], "not enough memory"),
    (["score", "real", *ENCODER, "--method", "magic"], "invalid choice: 'magic'"),
    (["score", "real", *ENCODER, "--workers", "0"], "must be at least 1"),
    (["score", "real", *ENCODER, "--max-pixels", "0"], "must be at least 1"),
    (["score", "real", *ENCODER, "--size", "7.5"], "'7.5' is not a whole number"),
    (["score", "real", *ENCODER, "--size", "10000000"], "--size 10000000 does not suit"),
    (["score", "real", *ENCODER, "--dtype", "int8"], "invalid choice: 'int8'"),
    (["score", "real", *ENCODER, "--device", "meta"], "--device meta cannot be used here"),
    (["score", "real", *ENCODER, "--overwrite", "x.csv"], "unrecognized arguments: x.csv"),
    (["score", "real", *ENCODER, "--out", ""], "an empty path"),
    (["score", "real", *ENCODER, "--out", "real"], ".csv or .jsonl"),
    (["score", "real", *ENCODER, "--out", "file/x.csv"], "file"),
    (["score", "real", *ENCODER, "--out", "theirs.csv"], "not a file of settings"),
    (["score", "real", *ENCODER, "--out", "half.csv"], "cannot read half.csv.json"),
    (["score", "real", *ENCODER, "--out", "older.csv"], "another batch_size"),
    (["calibrate", "real", *ENCODER], "required: --out"),
    (["calibrate", "few", *ENCODER, "--out", "new/c.json"], "3 real images are too few"),
    (["calibrate", "copies", *ENCODER, "--out", "new/c.json"], "1 real images are too few"),
    (["calibrate", "real", *ENCODER, "--out", "c.json", "--false-positive-rate", "0"], "false-positive rate"),
    (["calibrate", "real", *ENCODER, "--out", "c.json", "--unsure-rate", "nan"], "must be a finite number"),
    (["calibrate", "real", *ENCODER, "--out", "new/c.json", "--unsure-rate", "0.01"], "unsure_rate must be"),
    (["calibrate", "real", *ENCODER, "--out", "c.json", "--calibration", "nan.json"], "unrecognized arguments"),
]
DESCRIBE = [
    ([], "the following arguments are required: pipeline"),
    (["nothing"], "cannot load a pipeline from 'nothing'"),
    (["classlist"], "code of its own; it is not run"),
    (["sd3", "--device", "foo"], "--device foo cannot be used here"),
    (["damaged"], "model_index.json"),
    (["dit", "--classes", "99999"], "class ids from 0 to"),
    (["sd3", "--classes", "1"], "takes no class_labels; give --prompt"),
    (["sd3", "--call", "nonesuch=1"], "takes no argument nonesuch"),
    (["sd3", "--call", "height=7"], "divisible"),
    (["sd3", "--prompts", ""], "an empty path"),
]
DEMO = [
    (["--samples", "1"], "must be at least 2"),
    (["--samples", "4", "--columns", "8"], "--samples must be at least --columns"),
    (["--weight", "heavy"], "'heavy' is not a number"),
    (["extra"], "unrecognized arguments: extra"),
    (["--alpha", "nan"], "must be a finite number"),
    (["--columns", "0"], "must be at least 1"),
    (["--out", "file"], "file"),
    (["--out", ""], "an empty path"),
]
FIT_DIT = ["dit", "--classes", "1", "--steps", "2", "--runs", "1", "--out", "new/fit.png"]
FIT = [
    (["sd3"], "one of the arguments --prompt --prompts --classes is required"),
    (["classlist", "--prompt", "x"], "code of its own; it is not run"),
    (["dit", "--prompt", "x"], "takes no prompt; give --classes"),
    (["sd3", "--prompt", "x", "--runs", "0"], "must be at least 1"),
    (["sd3", "--prompt", "x", "--first-weight", "nan"], "must be a finite number"),
    (["dit", "--classes", "99999"], "class ids from 0 to"),
    ([*FIT_DIT, "--out", "x"], "--out of fit ends in .png, .pdf or .svg"),
    ([*FIT_DIT, "--out", "file/x.png"], "file"),
    ([*FIT_DIT, "--first-weight", "0"], "1 < first_weight < last_weight is needed, got 0.0"),
    ([*FIT_DIT, "--last-weight", "1.2"], "1 < first_weight < last_weight is needed, got 1.5 and 1.2"),
    ([*FIT_DIT, "--weight", "1"], "without the unconditional pass"),
    ([*FIT_DIT, "--steps", "1"], "one step does not show whether the ratio falls"),
    ([*FIT_DIT, "--call", "output_type=pt"], "is set by this command"),
    ([*FIT_DIT, "--weights", "3"], "--weights needs two or more to compare, got 3 alone"),
    ([*FIT_DIT, "--weights", "1,x"], "'x' is not a number"),
]
VERIFY = [
    (["nonesuch.png", "dit"], "nonesuch.png cannot be read as a PNG image"),
    (["file", "dit"], "file cannot be read as a PNG image"),
    (["real/00.png", "dit"], "does not say how it was drawn"),
    (["huge.png", "dit"], "exceeds limit"),
    (["real/00.png"], "the following arguments are required: pipeline"),
    (["", "dit"], "an empty path"),
]
PLAY = [
    (["nothing"], "cannot load a pipeline from 'nothing'"),
    (["classlist"], "code of its own; it is not run"),
    (["sd3", *["--compare", "cfg"] * 3], "--compare is given 3 times; the page has two methods"),
    (["sd3", "--compare", "magic"], "unknown guidance 'magic'"),
    (["sd3", "--compare", "trace"], "trace cannot be set in a page; there are none, "),
    (["sd3", "--compare", "json:JSONDecoder"], "cannot read 'JSONDecoder'"),
    (["sd3", "--port", "99999"], "a port is a number up to 65535, got 99999"),
    (["sd3", "--users", "0"], "must be at least 1"),
    (["sd3", "--steps", "0"], "must be at least 1"),
    (["sd3", "--call", "nonesuch=1"], "takes no argument nonesuch"),
    (["sd3", "--call", "prompt=x"], "--call prompt= is set by this command"),
    (["sd3", "--weight", "nan"], "must be a finite number"),
    (["sd3", "--device", "foo"], "--device foo cannot be used here"),
    (["sd3", "--host", "999.0.0.1"], "--host 999.0.0.1 cannot be listened on"),
]
TABLE = {
    "generate": GENERATE,
    "evaluate": EVALUATE,
    "calibrate": CALIBRATE,
    "detect": DETECT,
    "describe": DESCRIBE,
    "demo": DEMO,
    "fit": FIT,
    "verify": VERIFY,
    "play": PLAY,
}
CALLS = [(name, *row) for name, rows in TABLE.items() for row in rows]


def test_the_table_has_rows_for_every_command():
    assert TABLE.keys() == COMMANDS.keys()
    assert len(CALLS) >= 60 and len({(name, *arguments) for name, arguments, _ in CALLS}) == len(CALLS)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "arguments", "message"), CALLS)
def test_bad_input_is_one_sentence_and_exit_code_2(name, arguments, message, world, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(world)
    before = {path: path.read_bytes() for path in world.iterdir() if path.is_file()}
    code = main([name, *(str(tmp_path / part) if part.split("/")[0] == "new" else part for part in arguments)])
    err = capfd.readouterr().err
    assert code == 2, err
    last = err.strip().splitlines()[-1]
    assert last.startswith(f"diffusion-guidance {name}: ")
    assert message in last
    assert "Traceback" not in err
    assert all(path.read_bytes() == content for path, content in before.items())


def test_a_decompression_bomb_costs_its_own_row(world, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(world)
    assert main(["detect", "score", "huge.png", *ENCODER]) == 3
    assert "Traceback" not in capfd.readouterr().err


def test_the_command_itself(capsys):
    assert main([]) == main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in COMMANDS)
    assert main(["paint"]) == 2
    assert capsys.readouterr().err.startswith("diffusion-guidance: unknown command 'paint'; there are generate")
    assert main(["--version"]) == 0
    assert main(["generate", "--help"]) == 0


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (SafetensorError("Error while serializing: No space left on device"), "No space left on device"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (torch.OutOfMemoryError("CUDA out of memory"), "give a smaller --batch-size"),
        (MemoryError(), "there is not enough memory for this"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "there is not enough memory"),
        (RecursionError("maximum recursion depth"), "nested too deep"),
        (zipfile.BadZipFile("File is not a zip file"), "not a zip file"),
        (Image.DecompressionBombError("Image size exceeds limit"), "exceeds limit"),
        (ModuleNotFoundError("this needs scipy: pip install 'diffusion-guidance[evaluation]'"), "pip install"),
    ],
)
def test_what_libraries_raise_for_bad_input(error, said, capsys):
    def fail():
        raise error

    assert guarded("name", fail) == 2
    assert said in capsys.readouterr().err
    assert is_bad_input(error)


def test_a_closed_pipe_is_quiet():
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "diffusion_guidance", "--help"]
    result = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False, timeout=300)
    os.close(write)
    assert (result.returncode, result.stderr) == (141, "")


def test_a_missing_package_names_the_extra_of_the_command(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "scipy", None)
    monkeypatch.delitem(sys.modules, "diffusion_guidance.detection.threshold", raising=False)
    monkeypatch.delitem(sys.modules, "diffusion_guidance.cli.detection_run", raising=False)
    assert main(["detect", "score", str(assets_folder())]) == 2
    assert "pip install 'diffusion-guidance[detection]'" in capsys.readouterr().err
