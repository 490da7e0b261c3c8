"""Image quality databases: what one is, and a reader for each in the module of its name."""

from arniqa_pl.data.databases.database import Database, Release

__all__ = ["Database", "Release"]
