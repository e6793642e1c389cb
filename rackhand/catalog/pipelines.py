"""pipelines.yaml: architectures of which vLLM cannot make a pipeline."""

from functools import cache

from rackhand.catalog.book import HERE, Book, Entry, read


class Whole(Entry):
    """One architecture, by the name in config.json, whose layers have to stay together."""

    architecture: str


class PipelineBook(Book):
    """The whole file."""

    whole: tuple[Whole, ...]


@cache
def _book() -> frozenset[str]:
    return frozenset(row.architecture for row in read(PipelineBook, HERE / "pipelines.yaml").whole)


def has_pipeline(architecture: str) -> bool:
    """Tell whether vLLM can put an architecture's layers on several GPUs one behind the other."""
    return architecture not in _book()
