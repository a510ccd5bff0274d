from vqseg.benchmark.few_slices_table import table

SOURCE = {"command": "vqseg benchmark few-slices", "commit": "abc", "machine": "2 cores", "versions": {"torch": "2"}}


def row(method, budget_s, seed=0, dice=0.5, k=3, clock="wall", **extra):
    given = {
        "volume": "liver", "classes": "all", "k": k, "budget_s": budget_s, "clock": clock, "warmup_s": 0.0,
        "method": method, "seed": seed, "dice": dice, "hd95_mm": 4.0, "undefined": 0, "provenance": SOURCE,
    }  # fmt: skip
    return {**given, **extra}


def lines(text):
    return [line for line in text.splitlines() if line.startswith("| 3")]


def test_a_column_is_a_budget_and_what_needs_no_time_is_in_all():
    text = table([row("interpolation", 0.0, dice=0.6), row("unet", 30.0), row("unet", 60.0, dice=0.7)])
    assert "| k | method | 30 s | 60 s |" in text
    assert lines(text) == [
        "| 3 | `interpolation` | **0.600** / 4.0 | 0.600 / 4.0 |",
        "| 3 | `unet` | 0.500 / 4.0 | **0.700** / 4.0 |",
    ]
    assert text.count("vqseg benchmark few-slices") == 1


def test_seeds_are_joined_and_missing_ones_are_told():
    rows = [row("unet", 30.0, seed, dice) for seed, dice in ((0, 0.5), (1, 0.7))]
    text = table([*rows, row("vq-seg", 30.0), row("vq-seg", 60.0)])
    assert lines(text) == [
        "| 3 | `unet` | **0.600 ± 0.141** / 4.0 ± 0.0 | – |",
        "| 3 | `vq-seg` | 0.500 / 4.0 (1) | **0.500** / 4.0 (1) |",
    ]


def test_clocks_warm_ups_and_lost_classes_are_told_apart():
    text = table([row("vq-seg", 30.0), row("vq-seg", 30.0, clock="cpu", warmup_s=10.0, undefined=2, hd95_mm=None)])
    assert "Budget: wall time." in text
    assert "Budget: CPU time per thread" in text
    assert "| 3 | `vq-seg, warm-up 10 s` | **0.500** / – †2 |" in text
