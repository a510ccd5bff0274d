"""The sections of the window. Each knows the session, never the viewer and never torch."""

__all__: list[str] = []
