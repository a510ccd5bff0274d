"""A follower whose memory holds batches of two slices and no more: ``python tests/short_of_memory.py``."""

from vqseg import team, train


class ShortOfMemory(train.Trainer):
    """A trainer that runs out of memory in the middle of a step on larger batches."""

    def _training_losses(self):
        terms = super()._training_losses()
        if self.step_index == 1 and self.config.data.batch_x > 2:
            raise MemoryError
        return terms


if __name__ == "__main__":
    train.Trainer = ShortOfMemory
    team.main()
