"""Files of weights as people have them: read where they hold the network, else called what they are."""

import gzip
import io
import json
import pickle
import struct
import zipfile
from argparse import Namespace

import numpy as np
import pytest
import torch
from torch.serialization import get_crc32_options, set_crc32_options

from l2t_ray import models
from l2t_ray.config import Source, Target
from l2t_ray.data.streams import stream
from l2t_ray.errors import InputError
from l2t_ray.models.build import build

NETWORK = models.ResNet(20, 0.25, 7)
models.initialise(NETWORK, stream(1, "init"))
STATE = NETWORK.state_dict()


def saved(folder, content, **options):
    torch.save(content, folder / "net.pt", **options)
    return folder / "net.pt"


def written(folder, content):
    (folder / "net.pt").write_bytes(content)
    return folder / "net.pt"


def load(path, arch="resnet20", width=0.25):
    return models.load_source(Source(arch=arch, width=width, weights=str(path)))


def refusal(path, **network):
    with pytest.raises(InputError) as caught:
        load(path, **network)
    (problem,) = caught.value.problems
    return problem.removeprefix(f"{path}: ")


def prefixed(prefix, state=STATE):
    return {prefix + name: tensor for name, tensor in state.items()}


READ = {
    "bare": STATE,
    "DataParallel": prefixed("module."),
    "torch.compile": prefixed("_orig_mod."),
    "both": {"state_dict": prefixed("module._orig_mod.")},
    "compiled-stage": {name.replace("stages.1.", "stages.1._orig_mod."): tensor for name, tensor in STATE.items()},
    "Lightning": {"state_dict": prefixed("model.") | {"criterion.weight": torch.ones(7)}, "epoch": 9, "loops": {}},
    "AveragedModel": prefixed("module.") | {"n_averaged": torch.tensor(5)},
    "model": {"model": STATE, "optimizer": {"state": {}, "param_groups": []}},
    "net": {"net": prefixed("net."), "acc": 93.1, "classes": 7, "history": [0.1, 0.2]},
    "model_state_dict": {"model_state_dict": STATE, "epoch": torch.tensor(3)},
    "nested": {"model": {"state_dict": prefixed("module.")}},
    "no-counters": {name: tensor for name, tensor in STATE.items() if "num_batches" not in name},  # torch < 0.4.1
    "float64": {name: tensor.double() for name, tensor in STATE.items()},
}


@pytest.mark.parametrize("kind", READ)
def test_the_networks_tensors_are_read_from_every_wrapper(tmp_path, kind):
    network = load(saved(tmp_path, READ[kind]))
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(network(x), NETWORK.eval()(x))
    assert (network.classes, network.history) == (None, ())


def test_files_from_before_torch_wrote_zips_are_read(tmp_path):
    network = load(saved(tmp_path, {"state_dict": STATE}, _use_new_zipfile_serialization=False))
    assert torch.equal(network.fc.weight, NETWORK.fc.weight)


def test_classes_are_in_composed_form(tmp_path):
    content = models.source_state(NETWORK) | {"classes": ["cafe\u0301", *"abcdef"]}
    assert load(saved(tmp_path, content)).classes == ("café", *"abcdef")


@pytest.mark.parametrize("classes", ["abcdef", "abcdefgh"])
def test_classes_that_are_not_as_many_as_the_outputs_are_refused(tmp_path, classes):
    """Distillation would read other classes' outputs."""
    content = models.source_state(NETWORK) | {"classes": [*classes]}
    told = f"got {len(classes)} names in `classes` for 7 outputs; name every output, in their order"
    assert told in refusal(saved(tmp_path, content))


OTHER = {
    "which are resnet32, width 1.0": build("resnet32", 1.0, 5).state_dict(),
    "which are resnet20, width 0.5": {"net": prefixed("module.", build("resnet20", 0.5, 5).state_dict())},
    "which are vgg9, width 0.5": prefixed("module.", build("vgg9", 0.5, 5).state_dict()),
    "which are vit, width 0.5": models.source_state(build("vit", 0.5, 5)),
    "which are of another network, without conv1.weight, conv1.bias and with layer1.0.conv1.weight": {
        "layer1.0.conv1.weight": torch.zeros(2, 2, 3, 3)
    },
    "which are of another network, without fc.weight, fc.bias": {
        name: tensor for name, tensor in STATE.items() if "fc" not in name
    },
    "which are of another network, with aux.weight": STATE | {"aux.weight": torch.zeros(3)},
    "which are of another network, with conv1.weight of [4, 1, 3, 3]": STATE | {"conv1.weight": torch.ones(4, 1, 3, 3)},
}


@pytest.mark.parametrize("held", OTHER)
def test_weights_of_another_network_are_named(tmp_path, held):
    told = refusal(saved(tmp_path, OTHER[held]))
    assert told.startswith(f"source must match the weights, {held}")
    assert told.endswith("; got resnet20, width 0.25")


REFUSED = {
    "a list without names; save the network's state_dict()": [1, 2],
    "no named tensors, but optimizer, epoch; save the network's state_dict()": {"optimizer": {"lr": 1}, "epoch": 3},
    "two networks, with conv1.weight in each; save the state_dict() of one": prefixed("model.") | prefixed("net."),
    "conv1.weight as torch.int8; save it dequantized, as float32 or bfloat16": {
        name: t.to(torch.int8) for name, t in STATE.items()
    },
}
OBJECTS = {
    "l2t_ray.models.resnet.ResNet": NETWORK,
    "argparse.Namespace": {"state_dict": STATE, "args": Namespace(lr=0.1)},
    "numpy._core.multiarray.scalar": {"state_dict": STATE, "best": np.float64(0.9)},
    "numpy._core.multiarray._reconstruct": {"state_dict": STATE, "history": np.zeros(3)},
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_network_is_refused(tmp_path, what):
    assert refusal(saved(tmp_path, REFUSED[what])) == f"is not a readable file of weights, got {what}"


@pytest.mark.parametrize("name", OBJECTS)
@pytest.mark.parametrize("is_zip", [True, False])
def test_a_pickled_object_is_named(tmp_path, name, is_zip):
    told = refusal(saved(tmp_path, OBJECTS[name], _use_new_zipfile_serialization=is_zip))
    assert told.endswith(f"holds a pickled object ({name}), not only tensors; save its state_dict()")


EIGHT_BITS = [name for name in dir(torch) if name.startswith("float8_")]


@pytest.mark.parametrize("kind", EIGHT_BITS)
def test_numbers_of_eight_bits_are_not_taken_without_their_scales(tmp_path, kind):
    told = refusal(saved(tmp_path, STATE | {"fc.weight": STATE["fc.weight"].to(getattr(torch, kind))}))
    assert told.endswith(f"got fc.weight as torch.{kind}; save it dequantized, as float32 or bfloat16")


@pytest.mark.filterwarnings("ignore:.*(quantize_per_tensor|TypedStorage).*deprecated")  # torch's; old files have them
def test_quantized_tensors_are_refused(tmp_path):
    quantized = torch.quantize_per_tensor(STATE["fc.weight"], 0.1, 0, torch.qint8)
    told = refusal(saved(tmp_path, STATE | {"fc.weight": quantized}))
    assert told.endswith("got fc.weight as torch.qint8; save it dequantized, as float32 or bfloat16")


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_weights_of_sixteen_bits_are_read(tmp_path, kind):
    network = load(saved(tmp_path, {name: t.to(kind) for name, t in STATE.items()}))
    assert torch.equal(network.fc.weight, STATE["fc.weight"].to(kind).float())


WITHOUT_VALUES = {
    "as a sparse tensor (torch.sparse_coo); save it dense: tensor.to_dense()": STATE["fc.weight"].to_sparse(),
    "on the meta device, without numbers; save the network after it was filled": STATE["fc.weight"].to("meta"),
}


@pytest.mark.filterwarnings("ignore:(Sparse|Validating sparse tensor) invariant")  # of torch.load
@pytest.mark.parametrize("what", WITHOUT_VALUES)
def test_a_tensor_that_cannot_be_copied_is_called_what_it_is(tmp_path, what):
    told = refusal(saved(tmp_path, STATE | {"fc.weight": WITHOUT_VALUES[what]}))
    assert told == f"is not a readable file of weights, got fc.weight {what}"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["fc.weight", "stages.1.0.conv1.weight", "bn1.running_var"])
@pytest.mark.parametrize("section", [Source, Target])
def test_weights_that_are_not_finite_are_named(tmp_path, value, name, section):
    name = name if name in STATE else next(one for one in STATE if one.endswith(name.rpartition(".")[2]))
    broken = STATE[name].clone()
    broken.view(-1)[-1] = value
    path = saved(tmp_path, STATE | {name: broken})
    with pytest.raises(InputError) as caught:
        models.load_source(section(arch="resnet20", width=0.25, weights=str(path)))
    (problem,) = caught.value.problems
    what = f"got {name} with NaN or infinite numbers; name weights from before they diverged"
    assert problem == f"{path}: is not a readable file of weights, {what}"


def test_negative_variances_are_named(tmp_path):
    broken = STATE | {"bn1.running_var": -STATE["bn1.running_var"]}
    assert "got bn1.running_var with negative variances" in refusal(saved(tmp_path, broken))


def test_a_number_that_overflows_in_float32_is_told(tmp_path):
    huge = STATE["fc.bias"].double() + 1e300
    assert "got fc.bias with NaN or infinite numbers" in refusal(saved(tmp_path, STATE | {"fc.bias": huge}))


def safetensors():
    head = json.dumps({"fc.weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return struct.pack("<Q", len(head)) + head + bytes(4)


def zipped(*names):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in names:
            archive.writestr(name, b"")
    return content.getvalue()


def npz():
    content = io.BytesIO()
    np.savez(content, kernel=np.zeros(3))
    return content.getvalue()


EXPORT = "read it where it was written, and write its tensors with torch.save, under the network's names"
# what torch.onnx writes first: ir_version 8, producer_name, producer_version
ONNX = b"\x08\x08\x12\x07pytorch\x1a\x052.0.0:" + bytes(99)
INDEX = {"metadata": {"total_size": 8}, "weight_map": {"fc.weight": "model-00001-of-00002.safetensors"}}
FOREIGN = {
    # msgpack.packb({"params": {"a": 1}})
    f"a msgpack file, as Flax writes it; {EXPORT}": b"\x81\xa6params\x81\xa1a\x01",
    f"an ONNX model; {EXPORT}": ONNX,
    f"a TensorFlow Lite model; {EXPORT}": b"\x1c\0\0\0TFL3" + bytes(99),
    "an index of shards; read all that it names, and torch.save them as one state_dict": json.dumps(INDEX).encode(),
    "NumPy arrays (.npz); read it with numpy.load, and write its tensors with torch.save": npz(),
    f"a Keras model; {EXPORT}": zipped("metadata.json", "config.json", "model.weights.h5"),
    "a program of torch.export; read it with torch.export.load, and save its state_dict()": zipped(
        "net/data/weights/weight_0", "net/models/model.json", "net/archive_format"
    ),
    "a Git LFS pointer; run git lfs pull": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
    "a git-annex pointer; run git annex get": b"/annex/objects/SHA256E-s1--00.pt\n",
    "a web page (HTML); download it again": b"<!DOCTYPE html><html><title>Virus scan warning</title></html>",
    "a JSON text, such as a server's reply; download it again": b'{"error": "not found"}',
    "an XML text, such as a server's error; download it again": b"<Error><Code>AccessDenied</Code></Error>",
    "an empty file; fetch it again": b"",
    "a file of zeros; fetch it again": bytes(5000),
    "a file compressed with gzip; unpack it with gunzip": gzip.compress(bytes(100)),
    "an HDF5 file, as Keras and MATLAB write it; convert it": b"\x89HDF\r\n\x1a\n" + bytes(100),
    "a safetensors file; read it with safetensors.torch.load_file, and write that with torch.save": safetensors(),
    "a pickle that torch.save has not written; read it in Python, and save its state_dict()": pickle.dumps({"a": 1}),
    "no weights; fetch or train it again": bytes(range(256)) * 20,
    "a file that is cut short or damaged; fetch or train it again": b"PK\3\4" + bytes(50),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_a_file_that_holds_no_weights_is_called_what_it_is(tmp_path, what):
    assert refusal(written(tmp_path, FOREIGN[what])) == f"is not a readable file of weights, got {what}"


def test_a_zip_of_weights_is_told_with_its_members(tmp_path):
    with zipfile.ZipFile(tmp_path / "net.pt", "w") as archive:
        archive.writestr("weights/resnet20.pt", b"")
    assert "got a zip of weights/resnet20.pt; unpack it" in refusal(tmp_path / "net.pt")


def test_a_torchscript_module_is_told(tmp_path):
    """torch.jit.save writes NAME/data.pkl as torch.save does, NAME/code/, and NAME/constants.pkl."""
    with zipfile.ZipFile(tmp_path / "net.pt", "w") as archive:
        for name in ("data.pkl", "code/__torch__.py", "constants.pkl"):
            archive.writestr(f"net/{name}", b"")
    assert "got a TorchScript module; read it with torch.jit.load" in refusal(tmp_path / "net.pt")


def test_a_cut_file_of_either_format_is_called_so(tmp_path):
    for is_zip in (True, False):
        path = saved(tmp_path, STATE, _use_new_zipfile_serialization=is_zip)
        told = refusal(written(tmp_path, path.read_bytes()[:-3000]))
        assert "got a file that is cut short or damaged; fetch or train it again" in told


def flipped(path, content):
    """Flips a bit within a content of the file."""
    whole = bytearray(path.read_bytes())
    whole[whole.index(content) + len(content) // 2] ^= 0x40
    return written(path.parent, bytes(whole))


@pytest.mark.parametrize(
    ("member", "content"),
    [("net/data/0", STATE["conv1.weight"].numpy().tobytes()), ("net/data.pkl", b"stages.1.0")],
    ids=["numbers", "names"],
)
def test_a_flipped_bit_is_told_with_its_member(tmp_path, member, content):
    told = refusal(flipped(saved(tmp_path, STATE), content))
    what = f"a damaged one, whose {member} is not as it was saved; download or save it again"
    assert told == f"is not a readable file of weights, got {what}"


def test_a_flipped_bit_that_makes_a_member_a_folder_is_told(tmp_path):
    path = saved(tmp_path, STATE)
    whole = bytearray(path.read_bytes())
    entry = whole.rindex(b"net/data/3PK") - 46  # of the central directory; 38 bytes on are its external attributes
    whole[entry + 38] ^= 0x10
    told = refusal(written(tmp_path, bytes(whole)))
    assert "got a damaged one, whose net/data/3 is not as it was saved" in told


def test_a_file_without_checksums_is_read(tmp_path):
    before = get_crc32_options()
    set_crc32_options(False)
    try:
        path = saved(tmp_path, STATE)
    finally:
        set_crc32_options(before)
    with zipfile.ZipFile(path) as archive:
        assert {member.CRC for member in archive.infolist()} == {0}
    assert torch.equal(load(path).fc.weight, NETWORK.fc.weight)


@pytest.mark.parametrize(
    ("names", "remedy"),
    [
        ([], "name a file of weights"),
        (["config.json", "README.md"], "name a file of weights"),
        (["config.json", "model.safetensors", "optimizer.pt", "pytorch_model.bin", "training_args.bin"],
         "name the file in it: model.safetensors, pytorch_model.bin"),
        ([".metadata", "__0_0.distcp", "__1_0.distcp"],
         "make a file of it: python -m torch.distributed.checkpoint.format_utils dcp_to_torch {} FILE"),
    ],
    ids=["empty", "none", "transformers", "FSDP"],
)  # fmt: skip
def test_a_folder_is_told_with_the_files_of_weights_in_it(tmp_path, names, remedy):
    for name in names:
        (tmp_path / name).touch()
    assert refusal(tmp_path) == f"source.weights must be a file, got a folder; {remedy.format(tmp_path)}"


def test_a_file_in_another_unicode_form_is_named_as_it_is_on_the_disk(tmp_path):
    saved(tmp_path, STATE).rename(tmp_path / "cafe\u0301.pt")
    assert "source.weights must be spelled as on the disk" in refusal(tmp_path / "caf\u00e9.pt")


@pytest.mark.parametrize("prefix", ["ema_model.", "ema.module."])
def test_a_second_network_beside_one_in_a_wrapper_is_refused(tmp_path, prefix):
    """The averages of the weights would have been left out without a word."""
    both = saved(tmp_path, {"state_dict": prefixed("model.") | prefixed(prefix)})
    assert refusal(both).startswith(f"is not a readable file of weights, got two networks, one with {prefix}")
