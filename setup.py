"""A shim: metadata, extras and versions stand in pyproject.toml. Two folders beside the package travel inside it."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["tf_hqgnn", "tf_hqgnn.*"]), "tf_hqgnn.presets", "tf_hqgnn.pipeline_template"],
    package_dir={"tf_hqgnn.presets": "configs", "tf_hqgnn.pipeline_template": "pipelines"},
    package_data={
        "tf_hqgnn": ["py.typed"],
        "tf_hqgnn.explore": ["page/*"],
        "tf_hqgnn.presets": ["*.yaml"],
        "tf_hqgnn.pipeline_template": ["*.yaml", "*.md", "*.sh", "Dockerfile*", "kubernetes/*.yaml"],
    },
)
