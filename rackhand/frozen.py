"""What hosts say, as immutable data that is validated once."""

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from rackhand.errors import RackhandError

Model = TypeVar("Model", bound=BaseModel)


class Frozen(BaseModel):
    """Base of everything read from a host: immutable, unknown fields ignored so that a newer script may say more."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())


def validated(model: type[Model], answer: Any, where: str) -> Model:
    """Return a host's answer as a model; raises RackhandError `facts` when it makes no sense."""
    try:
        return model.model_validate(answer)
    except ValidationError as error:
        detail = error.errors(include_input=False, include_url=False)[0]
        path = ".".join(str(part) for part in detail["loc"])
        raise RackhandError(
            "facts",
            f"the host's facts make no sense: {path}: {detail['msg']}",
            where,
            "run again with --debug and report it",
        ) from None
