"""A page on which a model's recommendations can be looked at: `tf-hqgnn explore`."""
