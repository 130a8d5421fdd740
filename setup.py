"""Metadata of tf_hqgnn. `make setup` installs the locked versions; these are the ranges that the code needs."""

from setuptools import find_packages, setup

setup(
    name="tf_hqgnn",
    version="0.1.0",
    description="Graph recommendations on TensorFlow: trained without graph convolution, served from few bits",
    packages=find_packages(include=["tf_hqgnn", "tf_hqgnn.*"]),
    package_data={"tf_hqgnn": ["py.typed"]},
    python_requires=">=3.10,<3.12",
    install_requires=[
        "tensorflow~=2.16.2",
        "tf-keras~=2.16.0",
        "tensorflow-recommenders==0.7.7",
        "tensorflow-probability[tf]~=0.24.0",
        "numpy<2",
        "scipy",
        "pyarrow>=10",
        "pyarrow-hotfix>=0.6",
        "pydantic>=2",
        "PyYAML",
        "typer",
        "rich",
        "optuna>=4",
    ],
    extras_require={
        "tfx": ["tfx[kfp]==1.16.0", "apache-beam[gcp,dill]==2.72.0", "scann==1.3.2"],
        "beam": ["apache-beam==2.72.0", "scann==1.3.2"],
        "serving": [
            "tensorflow-serving-api~=2.16.1",
            "grpcio-health-checking",
            "grpcio-reflection",
            "scann==1.3.2",
            "fastapi",
            "uvicorn",
        ],
        "dev": [
            "pytest",
            "pytest-xdist",
            "hypothesis",
            "scikit-learn",
            "ruff",
            "mypy",
            "types-PyYAML",
            "types-protobuf",
        ],
    },
    entry_points={"console_scripts": ["tf-hqgnn = tf_hqgnn.cli:main"]},
)
