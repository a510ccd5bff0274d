"""The paths of a GPU, walked on a stand-in; and what is asked of real ones.

The stand-in's tensors say they are elsewhere and compute on the CPU. Like a GPU it refuses to mix its tensors with
those of the CPU (numbers and indices excepted), and the generators of the one with tensors of the other. How fast a
GPU is, and what it alone computes differently, is another matter.
"""

import contextlib

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only

from vqseg.annotations import Annotations
from vqseg.config import preset
from vqseg.data import TrainingCase
from vqseg.device import choose_device, compile_networks, has_room, random_states, restore_random_states
from vqseg.errors import DeviceError
from vqseg.methods import METHODS
from vqseg.models.unet import UNet
from vqseg.models.vqseg import VQSegNet
from vqseg.train import Trainer
from vqseg.volume import StoredLayout, Volume

DEVICE = torch.device("meta")  # autograd asks the drivers of the real ones
MAY_MIX = ("aten::copy_", "aten::_to_copy", "aten::index", "aten::index_put", "aten::index_put_",
           "aten::_index_put_impl_")  # fmt: skip


class Elsewhere(torch.Tensor):
    """A tensor that keeps its numbers in a CPU tensor."""

    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(
            cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            device=DEVICE, requires_grad=inner.requires_grad,
        )  # fmt: skip

    def __init__(self, inner):
        self.inner = inner.detach()

    def __repr__(self):
        return f"Elsewhere({self.inner!r})"

    def tolist(self):
        return self.inner.tolist()

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _compute(func, args, kwargs or {})


def _compute(func, args, kwargs):
    name = func._schema.name
    tensors = [item for item in tree_leaves((args, kwargs)) if isinstance(item, torch.Tensor)]
    elsewhere = [tensor for tensor in tensors if isinstance(tensor, Elsewhere)]
    here = [tensor for tensor in tensors if not isinstance(tensor, Elsewhere) and tensor.dim()]
    if elsewhere and here and name not in MAY_MIX:
        raise RuntimeError(f"Expected all tensors to be on the same device ({name})")
    target = kwargs.get("device")
    target = torch.device(target) if target is not None else DEVICE if elsewhere else torch.device("cpu")
    generator = kwargs.get("generator")
    if generator is not None and generator.device != target:
        raise RuntimeError(f"Expected a generator on {target} ({name})")
    inner_args, inner_kwargs = tree_map_only(Elsewhere, lambda tensor: tensor.inner, (args, kwargs))
    if "device" in kwargs:
        inner_kwargs["device"] = torch.device("cpu")
    with _disable_current_modes():
        out = func(*inner_args, **inner_kwargs)
    if target != DEVICE:
        return out
    out = tree_map_only(torch.Tensor, Elsewhere, out)
    return return_and_correct_aliasing(func, args, kwargs, out) if elsewhere else out


class _Moves(TorchDispatchMode):
    """Catches what is made on the device, or moved there."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if torch.is_inference_mode_enabled() and func._can_decompose():  # which only autograd does otherwise
            with self:
                return func.decompose(*args, **(kwargs or {}))
        target = (kwargs or {}).get("device")
        goes_there = target is not None and torch.device(target) == DEVICE
        if goes_there or any(issubclass(kind, Elsewhere) for kind in types):
            return _compute(func, args, kwargs or {})
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def pretend_device():
    """The device, as long as the context lasts."""
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        with _Moves():
            yield DEVICE
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)


TINY = {"size": 64, "patch": 32, "batch_x": 2, "batch_u": 2, "codebook_size": 32, "time_budget_s": 0, "iterations": 20,
        "confidence": 0.4}  # fmt: skip


@pytest.fixture
def case():
    shape = (10, 40, 40)
    z, y, x = np.indices(shape)
    labels = np.zeros(shape, np.uint8)
    labels[np.hypot(z - 5, np.hypot(y - 20, x - 20) / 3) < 4] = 1
    labels[4:6, 4:9, 30:38] = 2
    volume = Volume((labels * 100).astype(np.float32), StoredLayout(shape[::-1], np.diag([-1.0, -1.0, 2.0, 1.0])))
    return TrainingCase(volume, Annotations.from_slices(labels, [1, 4, 8]))


@pytest.fixture
def device(monkeypatch):
    monkeypatch.setattr(torch, "autocast", lambda *args, **options: contextlib.nullcontext())
    with pretend_device() as device:
        monkeypatch.setattr("vqseg.train.choose_device", lambda name: device)
        yield device


def test_the_stand_in_is_as_strict_as_a_gpu(device):
    there = torch.zeros(3, device=device)
    assert there.tolist() == [0, 0, 0]
    assert (there + torch.tensor(2.0)).cpu().tolist() == [2, 2, 2]
    with pytest.raises(RuntimeError, match="same device"):
        there + torch.ones(3)
    with pytest.raises(RuntimeError, match="generator"):
        torch.rand(3, generator=torch.Generator(), device=device)


@pytest.mark.parametrize("on_device", [False, True], ids=["data on the CPU", "data on the device"])
@pytest.mark.parametrize("method", list(METHODS))
def test_training_and_predicting_on_another_device(device, case, monkeypatch, method, on_device):
    monkeypatch.setattr("vqseg.train.has_room", lambda *_: on_device)
    trainer = Trainer(preset("fast", **TINY, method=method), [case], {1: "ball", 2: "bar"})
    assert (trainer.sampler.device == device) == on_device
    if method == "vq-seg":
        trainer.method.overlap.fill_(1e5)
        trainer.method.student.class_fit.fill_(1)
    for _ in range(3):
        report = trainer.step()
        assert np.isfinite(report.losses["total"])
    trainer.update_annotations(0, case.annotations)
    trainer.step()
    predictor = trainer.predictor()
    assert predictor.predict(case.volume, case.annotations).labels.any()
    assert predictor.preview(case.volume, 3, epsilon=0.5, draws=2).labels.shape == (40, 40)


def test_warming_up_on_another_device(device, case, monkeypatch):
    monkeypatch.setattr("vqseg.train.has_room", lambda *_: True)
    trainer = Trainer(preset("fast", **TINY, warmup_s=600), [case], {1: "ball", 2: "bar"})
    assert trainer.schedule.warming_up
    assert np.isfinite(trainer.step().losses["reconstruction"])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_what_a_gpu_draws_goes_on_as_well():
    there = torch.device("cuda")
    states = random_states(there)
    drawn = torch.rand(3, device=there)
    restore_random_states(states, there)
    assert torch.equal(torch.rand(3, device=there), drawn)


def test_data_stay_where_there_is_room(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (4000, 8000))
    assert has_room(torch.device("cuda"), 1000)
    assert not has_room(torch.device("cuda"), 1001)
    assert not has_room(torch.device("cpu"), 1)


def test_a_device_that_is_not_there_is_refused():
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="'cuda' was asked for and is not there"):
            choose_device("cuda")
    assert choose_device("cpu").type == "cpu"


@pytest.mark.parametrize("make", [
    lambda: VQSegNet(preset("fast", codebook_size=32).model, 3, 2),
    lambda: UNet(3, 2),
])  # fmt: skip
def test_compiling_changes_no_names_and_no_results(make, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda call, **options: compiled.append(call.__self__) or call)
    torch.manual_seed(0)
    network = make().eval()
    shape = torch.zeros(1, 2, 32, 32)
    before, names = (
        network(torch.ones(1, 3, 32, 32), *([shape] if hasattr(network, "quantizer") else [])),
        set(network.state_dict()),
    )
    compile_networks(network, None)
    after = network(torch.ones(1, 3, 32, 32), *([shape] if hasattr(network, "quantizer") else []))
    assert len(compiled) >= 3
    assert not any("quantizer" in type(part).__name__.lower() for part in compiled)
    assert set(network.state_dict()) == names
    torch.testing.assert_close(before.logits, after.logits)
