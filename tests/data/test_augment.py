import torch

from vqseg.data.augment import Warp, warp_features


def grid(size):
    rows, columns = torch.meshgrid(torch.arange(size) + 0.5, torch.arange(size) + 0.5, indexing="ij")
    return Warp(rows[None], columns[None])


def test_features_stay_where_a_warp_moves_nothing():
    features = torch.rand(1, 3, 4, 4)
    torch.testing.assert_close(warp_features(grid(64), features, (64, 64)), features)


def test_features_turn_with_their_slice():
    features = torch.rand(1, 3, 4, 4)
    still = grid(64)
    turned = Warp(still.columns, 64 - still.rows)
    torch.testing.assert_close(warp_features(turned, features, (64, 64)), features.transpose(2, 3).flip(2))


def test_a_finer_grid_of_features_is_brought_to_the_cells():
    features = torch.arange(8.0).expand(1, 1, 8, 8)  # one feature for 8 pixels
    coarse = warp_features(grid(64), features, (64, 64))
    torch.testing.assert_close(coarse[0, 0, 0], torch.tensor([0.5, 2.5, 4.5, 6.5]))
