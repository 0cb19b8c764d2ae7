"""A student small enough for tests, as `export` would write it: mean colours, mixed to 8 numbers."""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

SCALES = (1.0, 0.7071067811865476)


def student(path: Path, seed: int = 0, scales: tuple[float, ...] = SCALES) -> Path:
    """Write it to `path`: quadrants' mean colours times a random matrix, unit rows."""
    rng = np.random.default_rng(seed)
    mix = numpy_helper.from_array(rng.normal(size=(3, 8)).astype(np.float32), "mix")
    shift = numpy_helper.from_array(np.full((1, 3, 1, 1), 0.5, np.float32), "shift")
    nodes = [
        helper.make_node("Sub", ["image", "shift"], ["centred"]),
        helper.make_node("GlobalAveragePool", ["centred"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "mix"], ["mixed"]),
        helper.make_node("LpNormalization", ["mixed"], ["descriptor"], axis=1, p=2),
    ]
    graph = helper.make_graph(
        nodes, "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["b", 3, "h", "w"])],
        [helper.make_tensor_value_info("descriptor", TensorProto.FLOAT, ["b", 8])],
        [mix, shift],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    about = {
        "format": "whiten-mtd/exported/1", "model": "tiny", "weights": f"{seed:032x}", "dim": 8,
        "image_px": 48, "scales": list(scales), "init": "random", "aligned": False,
    }  # fmt: skip
    entry = model.metadata_props.add()
    entry.key, entry.value = "whiten_mtd", json.dumps(about)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def images(root: Path, groups: int = 6, each: int = 3, seed: int = 0) -> Path:
    """Images of one colour and some noise; a folder a colour, with names of all kinds."""
    rng = np.random.default_rng(seed)
    for group in range(groups):
        colour = rng.integers(20, 236, 3)
        for n in range(each):
            noisy = np.clip(colour + rng.normal(0, 12, 3), 0, 255)
            pixels = np.clip(noisy + rng.normal(0, 6, (40 + n, 60 - n, 3)), 0, 255)
            file = root / f"größe {group}" / f"bild {n}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(file)
    return root
