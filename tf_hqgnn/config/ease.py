"""Settings of `ease`: what items say of each other, beside what is trained."""

from __future__ import annotations

from pydantic import Field

from tf_hqgnn.config.section import Section


class EaseConfig(Section):
    """Columns of EASE's scores that are served beside the trained ones."""

    columns: int = Field(
        0,
        ge=0,
        description="Columns of EASE that every embedding gets besides model.embedding_dim; 0 for none. They help logs "
        "of few items, and new users. auto takes what auto.bytes_per_item leaves, up to 5,000 items.",
    )
    weight: float = Field(
        0.15,
        ge=0,
        description="How much EASE's scores count beside the trained ones. Both are divided by their standard "
        "deviation for each user.",
    )
    regularization: float = Field(250.0, gt=0, description="What is added to the diagonal of the items' Gram matrix.")
    search: bool = Field(True, description="Try other weights on the validation split after training, 0 included.")
