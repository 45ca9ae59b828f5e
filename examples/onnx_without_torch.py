"""python onnx_without_torch.py FILE.onnx PHOTO [NOISE]: needs onnxruntime, numpy, pillow; writes TASK.npy per task.

NOISE multiplies the noise that the network draws: 1 if left out, 0 for an answer without chance.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

model, photo = Path(sys.argv[1]), ImageOps.exif_transpose(Image.open(sys.argv[2])).convert("RGB")
strength = np.float32(sys.argv[3] if len(sys.argv) > 3 else 1)
about = json.loads(model.with_suffix(".json").read_text(encoding="utf-8"))
if fit := about["inputs"]["image"]["fit"]:  # the size that the network was trained on
    scale = min(fit[0] / photo.height, fit[1] / photo.width)
    size = (max(1, round(photo.width * scale)), max(1, round(photo.height * scale)))
    # As the network saw its pictures; Pillow's default is another filter.
    photo = photo.resize(size, Image.Resampling.BILINEAR)
inputs = {"image": np.asarray(photo).transpose(2, 0, 1)[None]}
if noise := about["inputs"].get("noise"):
    cells = [
        -(-side // noise["multiple"]) * noise["multiple"] // noise["stride"] for side in (photo.height, photo.width)
    ]
    shape = (noise["shape"][0], 1, noise["shape"][2], *cells)
    inputs["noise"] = strength * np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
answers = onnxruntime.InferenceSession(str(model)).run(None, inputs)
for (name, output), answer in zip(about["outputs"].items(), answers, strict=True):
    np.save(f"{name}.npy", answer[0])
    print(f"{name}: {output['kind']} [{output['unit']}], {answer.shape[1]} channels, mean {answer.mean():.4g}")
