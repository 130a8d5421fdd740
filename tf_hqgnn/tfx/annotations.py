"""TFX's annotations of component functions, in a form that a type checker understands.

TFX's `InputArtifact[Model]` is an object that describes a parameter; inside the function that parameter is a `Model`.
A type checker is told the latter.
"""

from typing import TYPE_CHECKING, Annotated, Any, TypeVar

if TYPE_CHECKING:
    T = TypeVar("T")
    InputArtifact = Annotated[T, "input"]
    OutputArtifact = Annotated[T, "output"]
    Parameter = Annotated[T, "parameter"]
    # Optional in the signature only: TFX asks for None there and gives a pipeline.
    BeamComponentParameter = Annotated[T | Any, "Beam pipeline"]
    component: Any
else:
    from tfx.dsl.component.experimental.annotations import (
        BeamComponentParameter,
        InputArtifact,
        OutputArtifact,
        Parameter,
    )
    from tfx.dsl.component.experimental.decorators import component

__all__ = ["BeamComponentParameter", "InputArtifact", "OutputArtifact", "Parameter", "component"]
