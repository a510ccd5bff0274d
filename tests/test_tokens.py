"""Where tokens lie on voxels, and what is kept of a codebook."""

import numpy as np
import pytest
import torch

from vqseg.annotations import Annotations
from vqseg.data.case import PreparedCase
from vqseg.data.framing import Framing
from vqseg.errors import EngineError
from vqseg.tokens import CodebookReport, CodebookSurvey, Codeword, Substitutes, TokenGrid
from vqseg.volume import StoredLayout, Volume, Window

GRID = TokenGrid((4, 20, 10, 34), (4.0, 6.0), (4, 4))


def survey(codes=None):
    codes = np.arange(48).reshape(3, 4, 4) % 5 if codes is None else codes
    voxels = np.array([[9, 1], [2, 8], [5, 5], [0, 1], [1, 0], [0, 0]])
    return CodebookSurvey(
        codes.astype(np.uint16), GRID, voxels, np.arange(6, dtype=np.float32), np.ones(6, np.float32),
        np.zeros((6, 2), np.float32), 0.75, np.array([[1, 0.5, 3]], np.float32),
    )  # fmt: skip


def test_voxels_know_their_token():
    assert GRID.first_centre_yx == (5.5, 12.5)
    assert GRID.token_at(4, 10) == (0, 0)
    assert GRID.token_at(7, 15) == (0, 0)
    assert GRID.token_at(8, 16) == (1, 1)
    assert GRID.token_at(19, 33) == (3, 3)
    assert GRID.token_at(3, 10) is None
    assert GRID.token_at(4, 34) is None
    assert GRID.voxels_of(1, 3) == (slice(8, 12), slice(28, 34))
    on_voxels = GRID.on_voxels(np.arange(16).reshape(4, 4))
    assert on_voxels.shape == (16, 24)
    assert (on_voxels[4:8, 18:24] == 7).all()


@pytest.mark.parametrize("stride", [8, 14, 16])
@pytest.mark.parametrize("pixel_mm", [0.37, 0.9, 2.1])
def test_tokens_lie_where_the_network_puts_them(stride, pixel_mm):
    """A map painted token by token in the network's frame and brought back as predictions are."""
    volume = Volume(np.zeros((2, 61, 75), np.float32), StoredLayout((75, 61, 2), np.diag([-0.8, -0.7, 2.0, 1.0])))
    labels = np.zeros(volume.shape, np.uint8)
    labels[0, 30:34, 40:50] = 1
    case = PreparedCase(volume, Annotations.from_slices(labels, [0]), Framing(Window(0, 100), pixel_mm), (1,))
    height, width = case.size
    rows, columns = torch.arange(height) // stride, torch.arange(width) // stride
    shape = int(rows[-1]) + 1, int(columns[-1]) + 1
    painted = rows[:, None] * shape[1] + columns
    maps = torch.nn.functional.one_hot(painted, shape[0] * shape[1]).permute(2, 0, 1).float()
    back = case.to_volume(maps).argmax(0).numpy()

    y0, y1, x0, x1 = case.box
    grid = TokenGrid(case.box, (stride * (y1 - y0) / height, stride * (x1 - x0) / width), shape)
    found = grid.on_voxels(np.arange(shape[0] * shape[1]).reshape(shape))
    agree = found == back
    # A voxel whose centre lies on the edge between two tokens is either's.
    edge_y = np.abs(((np.arange(y1 - y0) + 0.5) / grid.step_yx[0] + 0.5) % 1 - 0.5) * grid.step_yx[0] < 0.51
    edge_x = np.abs(((np.arange(x1 - x0) + 0.5) / grid.step_yx[1] + 0.5) % 1 - 0.5) * grid.step_yx[1] < 0.51
    assert agree[~edge_y][:, ~edge_x].all()
    assert agree.mean() > 0.7


def test_a_report_counts():
    report = CodebookReport(np.array([1, 3, 0, 0, 0, 1, 0, 0]))
    assert report.codebook_size == 8
    assert report.dead == 5
    assert report.utilisation == pytest.approx(3 / 8)
    assert report.perplexity == pytest.approx(np.exp(-(0.6 * np.log(0.6) + 0.4 * np.log(0.2))))
    assert CodebookReport(np.ones(16, np.int64)).perplexity == pytest.approx(16)
    assert np.isnan(CodebookReport(np.zeros(16, np.int64)).perplexity)
    assert CodebookReport(np.zeros(16, np.int64)).utilisation == 0


def test_a_survey_says_where_a_code_occurs_and_in_what():
    codes = np.zeros((3, 4, 4), int)
    codes[1, :2] = 3
    codes[2, 0, 0] = 3
    found = survey(codes)
    assert found.owner.tolist() == [0, 1, 0, 1, 0, 0]
    occurrence = found.occurrence(3)
    assert (occurrence.tokens, occurrence.slices, occurrence.most_in) == (9, 2, 1)
    assert found.report.usage.tolist() == [39, 0, 0, 9, 0, 0]


def test_substitution_moves_with_epsilon_and_adds_up():
    substitutes = Substitutes(np.array([4, 1]), np.array([0.7, 0.1]))
    keep, others, rest = substitutes.at(0.7)
    assert keep == pytest.approx(0.3)
    assert others.tolist() == pytest.approx([0.49, 0.07])
    assert keep + others.sum() + rest == pytest.approx(1)
    assert substitutes.at(0.0)[0] == 1
    assert substitutes.at(0.0)[1].tolist() == [0, 0]


def test_they_come_back_from_disk(tmp_path):
    written = survey()
    written.save(tmp_path / "codebook.npz")
    read = CodebookSurvey.load(tmp_path / "codebook.npz")
    assert read.grid == GRID
    assert read.explained == 0.75
    for name in ("codes", "class_voxels", "hu_mean", "hu_sd", "places", "history"):
        np.testing.assert_array_equal(getattr(read, name), getattr(written, name))
        assert getattr(read, name).dtype == getattr(written, name).dtype
    Codeword(3, Substitutes(np.array([1]), np.array([0.5])), np.ones((2, 8, 8), np.float32)).save(tmp_path / "c.npz")
    code = Codeword.load(tmp_path / "c.npz")
    assert (code.code, code.substitutes.codes.tolist(), code.decoded_hu.shape) == (3, [1], (2, 8, 8))
    (tmp_path / "c.npz").write_bytes(b"no")
    with pytest.raises(EngineError, match="press Measure again"):
        Codeword.load(tmp_path / "c.npz")
