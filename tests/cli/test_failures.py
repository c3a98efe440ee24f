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


def huge_png() -> bytes:
    """A PNG whose header says 60,000 by 60,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


SD3 = ["sd3", "--prompt", "x", "--steps", "1", "--out", "new"]
GENERATE = [
    (["sd3"], "one of the arguments --prompt --prompts --classes is required"),
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
]
RUN = ["run", "sd3", "--world", "shapes", "--seeds", "0-1", "--steps", "1", "--world-samples", "50", "--out", "new"]
SCORE = ["score", "real", "real", "--out", "new"]
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
]
ENCODER = ["--encoder", "local:encoder"]
DETECT = [
    ([], "the following arguments are required: command"),
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
]
DESCRIBE = [
    ([], "the following arguments are required: pipeline"),
    (["nothing"], "cannot load a pipeline from 'nothing'"),
    (["classlist"], "code of its own; it is not run"),
    (["sd3", "--device", "foo"], "--device foo cannot be used here"),
]
DEMO = [
    (["--samples", "1"], "must be at least 2"),
    (["--samples", "4", "--columns", "8"], "--samples must be at least --columns"),
    (["--weight", "heavy"], "'heavy' is not a number"),
    (["extra"], "unrecognized arguments: extra"),
]
FIT = [
    (["sd3"], "one of the arguments --prompt --prompts --classes is required"),
    (["classlist", "--prompt", "x"], "code of its own; it is not run"),
    (["dit", "--prompt", "x"], "takes no prompt; give --classes"),
    (["sd3", "--prompt", "x", "--runs", "0"], "must be at least 1"),
    (["sd3", "--prompt", "x", "--first-weight", "nan"], "must be a finite number"),
]
TABLE = {
    "generate": GENERATE,
    "evaluate": EVALUATE,
    "calibrate": CALIBRATE,
    "detect": DETECT,
    "describe": DESCRIBE,
    "demo": DEMO,
    "fit": FIT,
}
CALLS = [(name, *row) for name, rows in TABLE.items() for row in rows]


def test_the_table_has_rows_for_every_command():
    assert TABLE.keys() == COMMANDS.keys()
    assert len(CALLS) >= 60


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "arguments", "message"), CALLS)
def test_bad_input_is_one_sentence_and_exit_code_2(name, arguments, message, world, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(world)
    before = {path: path.read_bytes() for path in world.iterdir() if path.is_file()}
    code = main([name, *(str(tmp_path / "new") if part == "new" else part for part in arguments)])
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
    result = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (result.returncode, result.stderr) == (141, "")


def test_a_missing_package_names_the_extra_of_the_command(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "scipy", None)
    monkeypatch.delitem(sys.modules, "diffusion_guidance.detection.threshold", raising=False)
    monkeypatch.delitem(sys.modules, "diffusion_guidance.cli.detection_run", raising=False)
    assert main(["detect", "score", str(assets_folder())]) == 2
    assert "pip install 'diffusion-guidance[detection]'" in capsys.readouterr().err
