"""Every hyper-parameter that has a name, and the presets that set them."""
