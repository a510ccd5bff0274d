import itertools
import math

import pytest
import torch

from vqseg.benchmark.divergence import divergence_figure, draw_divergence, measure_divergence
from vqseg.config import ModelConfig
from vqseg.models.vqseg import VQSegNet

STRENGTHS = (0.0, 0.5, 0.9)


@pytest.fixture
def curves():
    torch.manual_seed(0)
    network = VQSegNet(ModelConfig(codebook_size=32, code_dim=4, neighbours=0, shape_evidence=False), 1, 3)
    images = torch.rand(5, 1, 48, 48)
    with torch.no_grad():
        for _ in range(30):  # k-means of the codebook, then the running statistics of the normalisation
            network(images)
    return measure_divergence(network, images, (images[:, 0] * 3).long(), strengths=STRENGTHS)


def test_nothing_diverges_at_strength_zero(curves):
    for kind in ("dropout", "qpm"):
        assert curves.output[kind][0] == pytest.approx(0, abs=1e-6)
        assert curves.theory[kind][0] == pytest.approx(0, abs=1e-6)
        assert curves.output[kind][0] < curves.output[kind][1] < curves.output[kind][2]
    assert curves.dice["dropout"][0] == curves.dice["qpm"][0]


def test_theory_stands_beside_the_measurement(curves):
    assert curves.theory["dropout"] == pytest.approx([0, 0.5 * (1 + math.log(0.5)), 0.5 * (9 + math.log(0.1))])
    assert max(curves.theory["qpm"]) <= curves.bound


def test_the_picture_is_drawn(curves, tmp_path):
    pytest.importorskip("matplotlib")
    draw_divergence(curves, tmp_path / "new" / "divergence.png")
    assert (tmp_path / "new" / "divergence.png").stat().st_size > 10_000


def test_no_word_of_the_picture_is_cut_off(curves):
    pytest.importorskip("matplotlib")
    figure = divergence_figure(curves)
    figure.draw_without_rendering()
    for axes in figure.axes:
        for text in (axes.title, axes.xaxis.label, axes.yaxis.label):
            box, page = text.get_window_extent(), figure.bbox
            assert page.x0 <= box.x0 < box.x1 <= page.x1, text.get_text()
            assert page.y0 <= box.y0 < box.y1 <= page.y1, text.get_text()
    titles = sorted((axes.title.get_window_extent() for axes in figure.axes), key=lambda box: box.x0)
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(titles))
