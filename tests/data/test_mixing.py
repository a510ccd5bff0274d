import torch

from vqseg.data.mixing import copy_paste_mask, cutmix_masks, largest_components, paste


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_cutmix_boxes_cover_what_they_should():
    masks = cutmix_masks(200, 40, 60, generator())
    area = masks.float().mean((1, 2))
    boxed = area > 0
    assert 0.35 < boxed.float().mean() < 0.65
    assert area.max() < 0.45
    mask = masks[boxed][0]
    rows, columns = mask.any(1), mask.any(0)
    assert mask.sum() == rows.sum() * columns.sum()  # a box, without holes


def test_copy_paste_patch_has_two_thirds_of_each_side():
    mask = copy_paste_mask(30, 60, generator())
    assert mask.any(1).sum() == 20
    assert mask.any(0).sum() == 40
    assert mask.sum() == 800


def test_masks_follow_the_seed():
    assert torch.equal(cutmix_masks(8, 32, 32, generator(1)), cutmix_masks(8, 32, 32, generator(1)))
    assert not torch.equal(copy_paste_mask(32, 32, generator(1)), copy_paste_mask(32, 32, generator(2)))


def test_paste_takes_images_and_labels():
    mask = torch.zeros(2, 4, 4, dtype=torch.bool)
    mask[0, :2] = True
    image = paste(torch.ones(2, 3, 4, 4), torch.zeros(2, 3, 4, 4), mask)
    label = paste(torch.ones(2, 4, 4), torch.zeros(2, 4, 4), mask)
    assert image.sum() == 3 * label.sum() == 24


def test_largest_component_of_each_class_stays():
    labels = torch.zeros(1, 8, 8, dtype=torch.int64)
    labels[0, :3, :3] = 1
    labels[0, 6, 6] = 1
    labels[0, 6:, :2] = 2
    cleaned = largest_components(labels, 4)
    assert cleaned[0, 6, 6] == 0
    labels[0, 6, 6] = 0
    assert torch.equal(cleaned, labels)
