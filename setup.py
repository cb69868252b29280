"""Packaging of CAMuLeNet: three importable packages, the `run-ser` console script, and data files."""

from pathlib import Path

from setuptools import setup

# What a training run needs beyond loading a checkpoint. torchaudio augments and resamples on the training
# side only: the files that ship with a checkpoint never import it.
TRAIN = [
    "accelerate>=1.10",
    "datasets>=4.0",
    "evaluate>=0.4.6",
    "huggingface_hub>=1.0",
    "Jinja2>=3.1",
    "matplotlib>=3.9",
    "pandas>=2.2",
    "PyYAML>=6.0",
    "scikit-learn>=1.6",
    "scipy>=1.13",
    "torchaudio>=2.9",
]
EXPORT = ["onnx>=1.20", "onnxruntime>=1.24", "onnxscript>=0.7"]
LORA = [*TRAIN, "peft>=0.21"]
DEMO = ["espeakng-loader>=0.2.4"]
APP = [*TRAIN, *DEMO, "gradio>=6.30", "silero-vad>=6.2"]
BENCHMARK = [*TRAIN, *EXPORT, "opensmile>=2.6", "librosa>=0.11"]
DEV = [
    "mutmut>=3.8",
    "pytest>=8.4",
    "pytest-cov>=7.1",
    "pytest-timeout>=2.4",
    "pytest-xdist>=3.8",
    "hypothesis>=6.100",
    "playwright>=1.60",
    "ruff>=0.14",
]

setup(
    name="camulenet",
    version="0.1.0",
    description="Speech emotion recognition on unseen speakers: co-attention, multitask learning, honest evaluation",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=["modeling_camulenet", "dataset_scripts", "ser_protocol", "ser_protocol.metrics"],
    py_modules=["run_ser"],
    package_data={
        "dataset_scripts": ["*.json", "splits/*.json", "templates/*.md"],
        "ser_protocol": ["templates/*"],
    },
    install_requires=[
        "torch>=2.6",
        "transformers>=5.23",
        "numpy>=2.0",
        "safetensors>=0.6",
        "soundfile>=0.13",
        "soxr>=0.5",
    ],
    extras_require={
        "train": TRAIN,
        "lora": LORA,
        "demo": DEMO,
        "export": EXPORT,
        "app": APP,
        "benchmark": BENCHMARK,
        "dev": LORA + APP + EXPORT + DEV,
    },
    entry_points={"console_scripts": ["run-ser=run_ser:main"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Topic :: Multimedia :: Sound/Audio :: Speech",
    ],
)
