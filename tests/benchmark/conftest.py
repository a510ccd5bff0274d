import argparse

import pytest


@pytest.fixture
def parse():
    """Arguments of a benchmark module, from a list of strings."""

    def parse(module, *options):
        parser = argparse.ArgumentParser()
        module.add_arguments(parser)
        return parser.parse_args([str(option) for option in options])

    return parse
