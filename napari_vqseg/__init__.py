"""The viewer's face on vqseg: a napari plugin that never loads torch.

Training and prediction run in an engine process (``vqseg.engine``); this package holds the window and the session.
"""

__all__: list[str] = []
