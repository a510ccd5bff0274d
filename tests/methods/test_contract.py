"""What every method promises, whichever it is."""

import pytest
import torch

from vqseg.config import Config
from vqseg.errors import ConfigError
from vqseg.losses import IGNORE_LABEL
from vqseg.methods import METHODS, create_method
from vqseg.methods.base import Batch

N_CLASSES = 3
SIZE = 32


@pytest.fixture(params=list(METHODS))
def name(request):
    return request.param


def make(name, segmentation="ce+dice"):
    config = Config().replace(
        encoder="conv", codebook_size=32, code_dim=4, neighbours=0, size=SIZE, segmentation=segmentation,
        confidence=0.3, seed=3,
    )  # fmt: skip
    torch.manual_seed(0)
    method = create_method(name, config, 1, N_CLASSES)
    method.train()
    if method.teacher is not None:
        method.teacher.eval()
    return method


def make_batch(n=4, unlabelled=True):
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(2, n, 1, SIZE, SIZE, generator=generator)
    label = (image[0, :, 0] * N_CLASSES).long().clamp(max=N_CLASSES - 1)
    if not unlabelled:
        return Batch(image[0], label)
    valid = torch.ones(n, SIZE, SIZE, dtype=torch.bool)
    valid[:, -4:] = False
    return Batch(image[0], label, image[1], image[1] * 0.9, image[1] * 0.8 + 0.1, valid)


def train(name, n_steps=3, **options):
    """Losses of a few steps and the method behind them."""
    method = make(name)
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.01)
    torch.manual_seed(5)
    history = []
    for step in range(n_steps):
        losses = method.losses(make_batch(**options), progress=0.5)
        optimizer.zero_grad()
        losses["total"].backward()
        optimizer.step()
        method.update_teacher(step)
        history.append({key: value.item() for key, value in losses.items()})
    return history, method


@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("segmentation", ["ce", "ce+dice"])
def test_losses_are_finite_scalars_and_reach_the_student(name, progress, segmentation):
    method = make(name, segmentation)
    losses = method.losses(make_batch(), progress)
    assert all(loss.ndim == 0 and torch.isfinite(loss) for loss in losses.values())
    losses["total"].backward()
    gradients = [p.grad for p in method.student.parameters() if p.grad is not None]
    assert sum(float(g.abs().sum()) for g in gradients) > 0
    assert all(torch.isfinite(g).all() for g in gradients)


def test_only_the_student_side_is_trained(name):
    method = make(name)
    method.losses(make_batch(), 0.9)["total"].backward()
    if method.teacher is not None:
        assert all(p.grad is None and not p.requires_grad for p in method.teacher.parameters())


def test_teacher_moves_towards_the_student(name):
    method = make(name)
    if method.teacher is None:
        pytest.skip(f"{name} has no teacher")
    method.losses(make_batch(), 0.9)
    with torch.no_grad():
        for parameter in method.student.parameters():
            parameter.add_(1.0)

    def distance():
        pairs = zip(method.teacher.parameters(), method.student.parameters(), strict=True)
        return sum(float((t - s).detach().abs().sum()) for t, s in pairs)

    before = distance()
    method.update_teacher(50)
    assert 0 < distance() < before


def test_the_network_that_the_paper_scores_predicts(name):
    method = make(name)
    assert method.network_for_prediction is (method.teacher if name == "vq-seg" else method.student)


def test_same_seed_same_losses(name):
    first, method_1 = train(name)
    second, method_2 = train(name)
    assert first == second
    for a, b in zip(method_1.student.parameters(), method_2.student.parameters(), strict=True):
        assert torch.equal(a, b)


def test_batches_without_unlabelled_slices_work(name):
    history, _ = train(name, unlabelled=False)
    assert all(torch.isfinite(torch.tensor(list(losses.values()))).all() for losses in history)


def test_a_single_slice_is_enough(name):
    history, _ = train(name, n=1)
    assert len(history) == 3


def test_ignored_voxels_have_no_influence(name):
    """Whatever the hidden truth behind an ignored voxel, the losses do not know it: 255 is all they see.

    So an ignored voxel's own logit must get no gradient from the supervised loss.
    """
    method = make(name)
    batch = make_batch(unlabelled=False)
    batch.label_x = torch.full_like(batch.label_x, IGNORE_LABEL)
    losses = method.losses(batch, 0.0)
    reference = method.losses(make_batch(unlabelled=False), 0.0)
    assert torch.isfinite(losses["total"])
    # Only terms that need no label (reconstruction, commitment) may be left, and the segmentation loss is gone.
    assert losses["total"] < reference["total"]
    grads = torch.autograd.grad(losses["total"], list(method.student.parameters()), allow_unused=True)
    last = [g for (key, _), g in zip(method.student.named_parameters(), grads, strict=True) if "final_conv" in key]
    assert all(g is None or g.abs().max() == 0 for g in last)


def discs(n, seed):
    """Discs and rings somewhere in a slice, brighter than their surroundings but for the noise."""
    generator = torch.Generator().manual_seed(seed)
    centre = 10 + 12 * torch.rand(n, 2, 1, 1, generator=generator)
    axis = torch.arange(SIZE).float()
    distance = torch.hypot(axis.view(1, -1, 1) - centre[:, 0], axis - centre[:, 1])
    label = (distance < 8).long() + (distance < 4).long()
    return 0.35 * label[:, None] + 0.2 * torch.rand(n, 1, SIZE, SIZE, generator=generator), label


def test_it_learns_a_toy_problem_through_all_its_phases(name):
    method, n_steps = make(name), 40
    optimizer = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=1e-2)
    for step in range(n_steps):
        (image_x, label_x), (image_u, _) = discs(4, seed=2 * step), discs(4, seed=2 * step + 1)
        second = image_u * 0.8 + 0.1 if method.strong_views == 2 else None
        unlabelled = (image_u, image_u * 0.9, second) if method.ready_for_unlabelled else ()
        losses = method.losses(Batch(image_x, label_x, *unlabelled), step / n_steps)
        optimizer.zero_grad()
        losses["total"].backward()
        optimizer.step()
        method.update_teacher(step)
    assert method.ready_for_unlabelled
    image, label = discs(8, seed=1000)
    with torch.no_grad():
        found = method.network_for_prediction.eval()(image).logits.argmax(1)
    for value in (1, 2):
        both = ((found == value) & (label == value)).sum()
        assert 2 * both / ((found == value).sum() + (label == value).sum()) > 0.7


def test_prediction_has_one_logit_a_class(name):
    method = make(name)
    logits = method.network_for_prediction.eval()(torch.rand(2, 1, 40, 24)).logits
    assert logits.shape == (2, N_CLASSES, 40, 24)


def test_unknown_methods_are_refused():
    with pytest.raises(ConfigError, match="Unknown method 'unet'; choose one of supervised"):
        create_method("unet", Config(), 1, 2)
