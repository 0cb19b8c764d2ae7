"""Networks on arrays of pixels: layers, backbones, weights, prefetch, embed."""
