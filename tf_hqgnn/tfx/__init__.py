"""TFX components and the module functions that run inside a pipeline."""
