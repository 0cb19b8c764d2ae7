"""Networks on arrays of pixels: layers, backbones, weights, loading ahead, the loop to descriptors."""
