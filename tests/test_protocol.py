"""One line a message, in both directions, and nothing else."""

import dataclasses
import json

import pytest

from vqseg import protocol
from vqseg.errors import EngineError
from vqseg.protocol import (
    Message,
    PreviewReady,
    Progress,
    RequestPreview,
    StartTraining,
    UpdateSettings,
    decode,
    encode,
)

EXAMPLES = {"str": "text", "int": 3, "float": 0.5, "bool": True, "list[int]": [1, 2]}


def example(kind):
    """A message of a kind with every field that has no default filled in."""
    required = [item for item in dataclasses.fields(kind) if item.default is item.default_factory]
    return kind(**{item.name: EXAMPLES.get(item.type, {}) for item in required})


KINDS = [value for value in vars(protocol).values() if isinstance(value, type) and issubclass(value, Message)]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind is not Message])
def test_every_message_survives_the_pipe(kind):
    message = example(kind)
    line = encode(message)
    assert "\n" not in line
    assert decode(line) == message


def test_text_with_line_ends_stays_one_line():
    message = protocol.Notice("first\nsecond\u2028third")
    assert "\n" not in encode(message)
    assert decode(encode(message)) == message


@pytest.mark.parametrize(
    "line",
    [
        "",
        "Epoch 1/10",
        "[]",
        "null",
        "{}",
        '{"message": "Nonsense"}',
        '{"message": "StartTraining"}',
        '{"message": "Shutdown", "unknown": 1}',
        '{"message": ["Shutdown"]}',
        '{"message": "Message"}',
    ],
)
def test_anything_else_is_an_error(line):
    with pytest.raises(EngineError, match="Not a message"):
        decode(line)


def test_numbers_that_are_none_are_refused():
    with pytest.raises(ValueError, match="JSON"):
        encode(Progress(1, float("nan"), 0.0))


def test_defaults_may_be_left_out():
    assert decode('{"message": "StartTraining", "run_path": "/x"}') == StartTraining("/x")
    assert decode(json.dumps({"message": "UpdateSettings"})) == UpdateSettings()
    assert decode(encode(RequestPreview(1, "case-001", 7))).draws == 1
    assert isinstance(decode(encode(PreviewReady(1, "a", 2, 0.5, "p", 0.1))), PreviewReady)
