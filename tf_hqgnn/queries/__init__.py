"""Questions to a model by ids, and answers as tables, wherever the model is."""
