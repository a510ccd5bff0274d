"""Every setting of the project in one place: default, unit, range, choices and the sentence shown to people.

The window builds its forms from these dataclasses, the command line its flags, the run folder its config.json;
nothing is defined twice. Values are checked when a config is made.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any, Literal, get_args, get_type_hints

from vqseg.errors import ConfigError
from vqseg.volume import Window

__all__ = [
    "PRESETS",
    "WINDOWS",
    "Config",
    "DataConfig",
    "LossConfig",
    "ModelConfig",
    "PredictConfig",
    "TrainConfig",
    "known_settings",
    "parse_setting",
    "preset",
]

MethodName = Literal["vq-seg", "supervised", "ua-mt", "unimatch", "bcp"]
EncoderName = Literal["conv", "efficientnet-lite0", "dinov2"]
PRIOR_NAMES = ("none", "dinov2", "clip", "biomedclip", "mae", "rad-dino")
PriorPolicy = Literal["auto", "required"]
PerturbationName = Literal["qpm", "dropout", "none"]
DeviceName = Literal["auto", "cpu", "cuda", "mps"]
SegmentationLossName = Literal["ce", "ce+dice"]

WINDOWS: dict[str, Window] = {
    "lung": Window(-500, 1400),
    "mediastinum": Window(40, 400),
    "abdomen": Window(40, 350),
    "bone": Window(400, 1000),
    "brain": Window(50, 100),
}
"""Display presets of radiology (level, width in HU), in the order of their number keys."""


def setting(
    default: Any,
    sentence: str,
    *,
    unit: str = "",
    limits: tuple[float, float] | None = None,
    step: float | None = None,
    live: bool = False,
    joinable: tuple[str, ...] = (),
) -> Any:
    """A config field with the words and bounds that every face of the project shows.

    Parameters
    ----------
    default : object
        Default value.
    sentence : str
        One sentence for people, shown as help and tooltip.
    unit : str
        Unit of the value, "" where it has none.
    limits : tuple of float, optional
        Smallest and largest allowed value.
    step : float, optional
        Step of a slider or spin box.
    live : bool
        Whether a change is taken over while training runs.
    joinable : tuple of str
        Words of a text: the default alone, or one or several of the others, joined by "+".
    """
    return field(default=default, metadata={
        "sentence": sentence, "unit": unit, "limits": limits, "step": step, "live": live, "joinable": joinable,
    })  # fmt: skip


KINDS: dict[type, tuple[type, str]] = {
    bool: (bool, "true or false"), int: (Integral, "a whole number"), float: (Real, "a number"), str: (str, "a text"),
}  # fmt: skip
"""What the values of a setting's type are, and what a person calls them."""


class _Checked:
    """Checks each field against its type, choices and limits."""

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for item in dataclasses.fields(self):  # type: ignore[arg-type]
            value, kind = getattr(self, item.name), hints[item.name]
            if kind in KINDS and not _is_of(kind, value):
                raise ConfigError(f"{item.name} is {value!r}; it must be {KINDS[kind][1]}.")
            choices = () if kind in KINDS else get_args(kind)
            limits = item.metadata.get("limits")
            if choices and all(isinstance(choice, str) for choice in choices) and value not in choices:
                raise ConfigError(f"{item.name} is {value!r}; choose one of {', '.join(map(repr, choices))}.")
            if item.metadata.get("joinable"):
                _check_joined(item, value)
            if limits and not limits[0] <= value <= limits[1]:
                unit = f" {item.metadata['unit']}" if item.metadata["unit"] else ""
                raise ConfigError(f"{item.name} is {value}; it must lie between {limits[0]:g} and {limits[1]:g}{unit}.")


def _is_of(kind: type, value: Any) -> bool:
    """Whether a value is of a setting's type; true and false are no numbers."""
    return isinstance(value, KINDS[kind][0]) and (kind is bool or not isinstance(value, bool))


def _check_joined(item: dataclasses.Field[Any], value: str) -> None:
    """Raise unless `value` is the default, or some of the other words, once each."""
    words, others = str(value).split("+"), [word for word in item.metadata["joinable"] if word != item.default]
    if value != item.default and (set(words) - set(others) or len(set(words)) < len(words)):
        raise ConfigError(
            f"{item.name} is {value!r}; choose {item.default}, or one or more of {', '.join(others)}, joined by +."
        )


@dataclass(frozen=True)
class ModelConfig(_Checked):
    """What the network is made of (method: VQ-Seg, sections QPM, dual branch, PFA)."""

    encoder: EncoderName = setting("conv", "Encoder: convolutional from scratch, or pretrained.")
    neighbours: int = setting(0, "Neighbouring slices on each side, as extra input channels.", limits=(0, 3), step=1)
    codebook_size: int = setting(1024, "Number of codewords K.", limits=(16, 65536))
    code_dim: int = setting(16, "Length of a codeword.", limits=(2, 768))
    code_scale: float = setting(
        4.0, "Spread of the code space: the larger, the nearer are the codes that replace one another.",
        limits=(0.1, 64),
    )  # fmt: skip
    stride: int = setting(
        16, "Side of the square that one code stands for, at most; the encoder's nearest reduction counts.",
        unit="px", limits=(2, 16),
    )  # fmt: skip
    quantization_ramp: float = setting(
        0.5, "Share of the training over which quantization is brought in.", limits=(0, 1), step=0.05
    )
    perturbation: PerturbationName = setting("qpm", "What perturbs the features of the unlabelled slices.")
    epsilon: float = setting(
        0.7, "Perturbation intensity: the chance that a code is replaced by a similar one.",
        limits=(0, 1), step=0.05, live=True,
    )  # fmt: skip
    shape_evidence: bool = setting(True, "Show the network the shape interpolated between labelled slices.")
    image_branch: bool = setting(True, "Reconstruct the image from the codes as well (dual branch).")
    prior: str = setting(
        "none", "Frozen foundation model that the codes are aligned to, or several joined by +, as in dinov2+rad-dino.",
        joinable=PRIOR_NAMES,
    )  # fmt: skip
    prior_policy: PriorPolicy = setting("auto", "Without a prior's weights: go on and say so, or stop.")
    prior_path: str = setting(
        "", "Local weights file of the prior, or a folder with a file named after each; empty for timm's cache or hub."
    )

    @property
    def priors(self) -> tuple[str, ...]:
        """Names of the frozen foundation models."""
        return () if self.prior == "none" else tuple(self.prior.split("+"))


@dataclass(frozen=True)
class LossConfig(_Checked):
    """Weights of the loss: L = L_l + lambda_u L_u + lambda_a L_align + commitment."""

    segmentation: SegmentationLossName = setting("ce+dice", "Segmentation loss.")
    unlabelled: float = setting(0.5, "Weight of the unlabelled slices (lambda_u).", limits=(0, 10), step=0.1, live=True)
    alignment: float = setting(0.1, "Weight of the alignment to the prior (lambda_a).", limits=(0, 10), step=0.1)
    reconstruction: float = setting(0.2, "Weight of the L1 image reconstruction.", limits=(0, 10), step=0.1)
    commitment: float = setting(0.25, "Weight of the quantizer's commitment term.", limits=(0, 10), step=0.05)


@dataclass(frozen=True)
class DataConfig(_Checked):
    """How slices become batches."""

    window_level_hu: float = setting(40.0, "Centre of the training window.", unit="HU", limits=(-1e6, 1e6))
    window_width_hu: float = setting(
        0.0, "Width of the training window; 0 chooses it from the labelled slices.", unit="HU", limits=(0, 2e6)
    )
    equalise: bool = setting(
        True, "Show the network each slice a second time, with contrast where the labelled structures have theirs."
    )
    register_slices: bool = setting(
        True, "Register each slice with the next, and carry the labelled shapes along with the anatomy."
    )
    size: int = setting(256, "Longest side of a slice in training; larger slices are resampled.", unit="px",
                        limits=(32, 1024), step=32)  # fmt: skip
    patch: int = setting(160, "Longest side of a training patch.", unit="px", limits=(32, 1024), step=32)
    batch_x: int = setting(4, "Labelled slices in a batch.", limits=(1, 64), step=1)
    batch_u: int = setting(4, "Unlabelled slices in a batch.", limits=(0, 64), step=1)


@dataclass(frozen=True)
class TrainConfig(_Checked):
    """How long and how to train."""

    method: MethodName = setting("vq-seg", "Training method.")
    time_budget_s: float = setting(60.0, "Wall time of training; 0 trains by iterations.", unit="s",
                                   limits=(0, 864000), step=10, live=True)  # fmt: skip
    iterations: int = setting(0, "Number of steps when there is no time budget.", limits=(0, 10_000_000))
    warmup_s: float = setting(0.0, "Learning the volume before any label.", unit="s", limits=(0, 86400), step=10)
    learning_rate: float = setting(1e-3, "AdamW's largest learning rate.", limits=(1e-7, 1))
    weight_decay: float = setting(1e-2, "AdamW's weight decay.", limits=(0, 1))
    ema_decay: float = setting(0.99, "How slowly the teacher follows the student (alpha).", limits=(0, 1))
    confidence: float = setting(
        0.95, "Pseudo-labels below this confidence are not used.", limits=(0, 1), step=0.01, live=True
    )
    use_unlabelled: bool = setting(True, "Learn from the unlabelled slices too.", live=True)
    unlabelled_from: float = setting(
        0.8, "Mean Dice on the labelled patches from which the unlabelled slices are used; 0 uses them at once.",
        limits=(0, 1), step=0.05,
    )  # fmt: skip
    seed: int = setting(0, "Seed of every random choice.", limits=(0, 2**31 - 1))
    device: DeviceName = setting("auto", "Where to compute.")
    mixed_precision: bool = setting(True, "Compute in bfloat16 where the device gains from it.")
    compile: bool = setting(False, "Compile the network first; takes a minute, pays in long runs on a GPU.")


@dataclass(frozen=True)
class PredictConfig(_Checked):
    """How a prediction is made from the network and the labelled slices."""

    fuse_geometry: bool = setting(True, "Weigh in the shape interpolated between labelled slices.")
    keep_connected: bool = setting(True, "Keep only components that touch a labelled slice of their class.")


@dataclass(frozen=True)
class Config:
    """One run's settings, grouped."""

    preset: str = "fast"
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    predict: PredictConfig = field(default_factory=PredictConfig)

    def replace(self, **settings: Any) -> Config:
        """A copy with settings changed by their own name, whatever their group: ``replace(epsilon=0.5)``.

        Raises
        ------
        ConfigError
            For an unknown name or a value out of range.
        """
        groups = {}
        for group in dataclasses.fields(self)[1:]:
            current = getattr(self, group.name)
            names = {item.name for item in dataclasses.fields(current)}
            changes = {name: settings.pop(name) for name in list(settings) if name in names}
            groups[group.name] = dataclasses.replace(current, **changes)
        if settings:
            raise ConfigError(f"Unknown setting {', '.join(sorted(settings))}; docs/data-format.md lists the settings.")
        return Config(preset=self.preset, **groups)

    def to_dict(self) -> dict[str, Any]:
        """Plain dictionaries, as in config.json."""
        return dataclasses.asdict(self)

    def to_json(self) -> str:
        """Indented JSON, one group a block."""
        return json.dumps(self.to_dict(), indent=2) + "\n"

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Config:
        """The config in `values`; missing settings take their defaults.

        Raises
        ------
        ConfigError
            For unknown groups or settings, and values out of range or of the wrong kind.
        """
        if not isinstance(values, Mapping):
            raise ConfigError("The config holds no settings; restore config.json.")
        hints = get_type_hints(cls)
        groups: dict[str, Any] = {}
        for name, value in values.items():
            if name not in hints:
                raise ConfigError(f"Unknown group of settings {name!r}; expected {', '.join(sorted(hints))}.")
            if name == "preset":
                groups[name] = str(value)
                continue
            known = {item.name for item in dataclasses.fields(hints[name])}
            if not isinstance(value, Mapping):
                raise ConfigError(f"The settings in {name!r} are no group; restore config.json.")
            if unknown := set(value) - known:
                raise ConfigError(f"Unknown setting {', '.join(sorted(unknown))} in {name!r}.")
            groups[name] = hints[name](**value)
        return cls(**groups)

    @classmethod
    def from_json(cls, text: str) -> Config:
        """The config in a config.json's text; see :meth:`from_dict`."""
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise ConfigError(f"The config is not JSON ({error}); restore it from the run's checkpoint.") from None
        return cls.from_dict(values)


PRESETS: dict[str, dict[str, Any]] = {
    "fast": {},
    "balanced": {"time_budget_s": 600.0, "size": 384, "codebook_size": 4096},
    "paper": {
        "encoder": "dinov2", "neighbours": 0, "equalise": False, "register_slices": False,
        "codebook_size": 16384, "code_dim": 384,
        "epsilon": 0.7, "quantization_ramp": 0.0, "prior": "dinov2", "shape_evidence": False, "fuse_geometry": False,
        "keep_connected": False, "segmentation": "ce", "unlabelled": 1.0, "alignment": 1.0, "reconstruction": 1.0,
        "size": 256, "patch": 256, "batch_x": 12, "batch_u": 12, "time_budget_s": 0.0, "iterations": 100_000,
        "learning_rate": 1e-4, "ema_decay": 0.996, "unlabelled_from": 0.0,
    },
}  # fmt: skip
"""What each preset changes from the defaults: minutes on a CPU, ten minutes, the paper's own settings."""


def preset(name: str, **settings: Any) -> Config:
    """The config of a preset, with `settings` changed on top.

    Raises
    ------
    ConfigError
        For an unknown preset, an unknown setting or a value out of range.
    """
    if name not in PRESETS:
        raise ConfigError(f"Unknown preset {name!r}; choose one of {', '.join(PRESETS)}.")
    return dataclasses.replace(Config(), preset=name).replace(**{**PRESETS[name], **settings})


def known_settings() -> dict[str, tuple[dataclasses.Field[Any], Any]]:
    """Field and type of every setting, by name."""
    groups = [item.default_factory for item in dataclasses.fields(Config)[1:]]
    return {
        item.name: (item, get_type_hints(group)[item.name])
        for group in groups
        for item in dataclasses.fields(group)  # type: ignore[arg-type]
    }


def parse_setting(name: str, text: str) -> Any:
    """The value that `text` gives a setting, by the setting's type; choices and limits are the config's to check.

    Raises
    ------
    ConfigError
        If there is no such setting, or the text is none of its type.
    """
    known = known_settings()
    if name not in known:
        raise ConfigError(f"unknown setting {name!r}; `vqseg info --settings` lists them")
    kind = known[name][1]
    if kind is bool:
        if text.lower() not in ("true", "false", "1", "0", "yes", "no", "on", "off"):
            raise ConfigError(f"{name} is {text!r}; it must be true or false")
        return text.lower() in ("true", "1", "yes", "on")
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            raise ConfigError(f"{name} is {text!r}; it must be {'a whole' if kind is int else 'a'} number") from None
    return text
