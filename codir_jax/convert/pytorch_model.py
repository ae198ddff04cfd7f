"""A PyTorch model of transformers with the sizes of one of ours, for what runs beside it; torch must be installed."""

from codir_jax.models.contract import family


def classifier(config, num_labels: int):
    """A `transformers` classifier, random weights, with scaled_dot_product_attention where it has that.

    Args:
      config: of a family, such as `models.transformer.TransformerConfig`.
      num_labels: of its head.
    """
    import transformers

    fields = family(config.family).write_config(config)
    hf_config = transformers.AutoConfig.for_model(fields.pop("model_type"), **fields, num_labels=num_labels)
    return transformers.AutoModelForSequenceClassification.from_config(hf_config)
