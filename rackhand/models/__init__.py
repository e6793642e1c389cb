"""What a model is, as numbers: from its config.json, its safetensors index, or the catalogue."""
