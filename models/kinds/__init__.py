"""The built-in kinds of models. A kind needs this line and its own file only; an installed package adds an entry point."""

# Name: (path of the class, what it is in one line)
BUILT_IN: dict[str, tuple[str, str]] = {
    "llama": ("flagbt.models.kinds.llama_model:LlamaModel", "a Llama backbone on rows of features, fine-tuned with LoRA"),
    "signals": ("flagbt.models.kinds.signals_model:SignalsModel", "probabilities that were computed elsewhere, by time"),
    "python": ("flagbt.models.kinds.python_model:PythonModel", "a class of your own, its weights as safetensors"),
    "original": ("flagbt.models.kinds.original_model:OriginalModel", "an imported transformer of the original architecture"),
    "ensemble": (
        "flagbt.models.kinds.ensemble_model:EnsembleModel",
        "the weighted mean of other checkpoints' log-probabilities",
    ),
    "lightgbm": ("flagbt.models.kinds.lightgbm_model:LightGBMModel", "trees of LightGBM on rows of features"),
    "sklearn": ("flagbt.models.kinds.sklearn_model:SklearnModel", "a classifier of scikit-learn on rows of features"),
    "onnx": ("flagbt.models.kinds.onnx_model:OnnxModel", "an ONNX graph on rows or windows, run by ONNX Runtime"),
    "forecaster": (
        "flagbt.models.kinds.forecaster_model:ForecasterModel",
        "quantiles of the close from a pre-trained forecaster",
    ),
}

# Kinds with a separate option at an import: --forecaster X is short for --model forecaster:X.
SHORT_OPTIONS = ("forecaster",)

# ``model_type`` in the config.json of the language models that a training can start from.
BASE_TYPES = ("llama",)
