"""Settings of `model` and `loss`: what is trained, and by which loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, create_model, model_validator

from tf_hqgnn.config.section import Section, registered
from tf_hqgnn.losses.loss import LOSSES, Loss, make_loss
from tf_hqgnn.models.encoders.choice import ENCODERS, EncoderChoice


class ModelConfig(Section):
    """The tables of embeddings, where they start, and the encoder that training runs over them."""

    encoder: Annotated[str, registered(ENCODERS)] = Field(
        "none", description="The graph network that training runs over the embedding tables; none trains them alone."
    )
    embedding_dim: int = Field(
        64, ge=1, description="The dimensions of the embedding tables. Embeddings of ngcf are num_layers + 1 as long."
    )
    num_layers: int = Field(3, ge=1, description="The number of layers of lightgcn and ngcf.")
    layer_weights: Literal["uniform", "learned"] = Field(
        "uniform", description="Whether lightgcn averages its layers or learns their weights."
    )
    message_dropout: float = Field(
        0.1, ge=0, lt=1, description="The share of a layer's output that ngcf drops while it trains."
    )
    initializer: Literal["spectral", "random", "popularity"] = Field(
        "spectral",
        description="Where embeddings start: at the first singular vectors of the interaction matrix (spectral), at "
        "random values (Glorot), or so that items rank by popularity for everybody, for a baseline without training.",
    )
    spectral_user_exponent: float = Field(
        0.3,
        ge=0,
        le=1,
        description="Before the singular vectors are found, divide each interaction by (interactions of its "
        "user)^this.",
    )
    spectral_item_exponent: float = Field(
        0.4,
        ge=0,
        le=1,
        description="Before the singular vectors are found, divide each interaction by (interactions of its "
        "item)^this.",
    )
    spectral_power: float = Field(
        1.5, ge=0, description="Raise singular values to this power in scores: higher smooths over more of the graph."
    )
    spectral_popularity: float = Field(
        0.2,
        ge=0,
        le=1,
        description="Favour popular items where nothing is trained: item embeddings get the length "
        "(interactions)^this.",
    )
    spectral_iterations: int = Field(
        8, ge=0, description="Power iterations that find the singular vectors: more are slower and more exact."
    )

    def encoder_choice(self) -> EncoderChoice:
        """The encoder that these settings name, to be made."""
        return ENCODERS[self.encoder]()


class LossConfig(Section):
    """The loss of the training. Settings that begin with the name of a loss belong to that loss only.

    The settings are those of the registered losses, which say what is allowed. Settings of another loss than the named
    one may be there and count for nothing; all losses of the package have theirs filled in.
    """

    model_config = ConfigDict(extra="allow")

    name: Annotated[str, registered(LOSSES)] = Field("softmax", description="The training loss.")
    weight_decay: float = Field(
        0.0, ge=0, description="The weight of an L2 penalty on the embeddings of each batch, before any encoder."
    )

    dislike_weight: float = Field(
        0.1,
        ge=0,
        description="The weight of the loss that ranks disliked items (data.negative_rating) below taken ones.",
    )

    @model_validator(mode="before")
    @classmethod
    def _check_settings(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        given = {key: value for key, value in values.items() if key not in cls.model_fields}
        chosen = values.get("name", cls.model_fields["name"].default)
        # The chosen loss comes last: where two losses have a setting of one name, its rules and its default count.
        names = sorted(LOSSES.names(), key=lambda name: name == chosen)
        fields = {key: (field.annotation, field) for name in names for key, field in LOSSES[name].model_fields.items()}
        settings = create_model("LossSettings", __base__=Section, **fields)  # type: ignore[call-overload]
        filled = {
            key
            for name in names
            if name == chosen or LOSSES.comes_with_package(name)
            for key in LOSSES[name].model_fields
        }
        checked = settings.model_validate(given).model_dump()
        return {**values, **{key: value for key, value in checked.items() if key in filled or key in given}}

    @classmethod
    def setting_names(cls) -> list[str]:
        """All settings, those of the losses included."""
        of_losses = [key for name in LOSSES.names() for key in LOSSES[name].model_fields]
        return list(dict.fromkeys(["name", *of_losses, *cls.model_fields]))

    @classmethod
    def setting_types(cls) -> dict[str, Any]:
        """See `Section`; where losses differ in the type of a setting of one name, it may be any of theirs."""
        types = super().setting_types()
        for name in LOSSES.names():
            for key, field in LOSSES[name].model_fields.items():
                types[key] = types[key] | field.annotation if key in types else field.annotation
        return types

    def make(self) -> Loss:
        """The loss that these settings name."""
        return make_loss(self.name, **{key: getattr(self, key) for key in LOSSES[self.name].model_fields})
