"""python onnx_without_torch.py FILE.onnx PHOTO: needs onnxruntime, numpy and pillow; writes TASK.npy for every task."""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

model, photo = Path(sys.argv[1]), Image.open(sys.argv[2]).convert("RGB")
about = json.loads(model.with_suffix(".json").read_text(encoding="utf-8"))
if fit := about["inputs"]["image"]["fit"]:  # the size that the network was trained on
    scale = min(fit[0] / photo.height, fit[1] / photo.width)
    photo = photo.resize((max(1, round(photo.width * scale)), max(1, round(photo.height * scale))))
inputs = {"image": np.asarray(photo).transpose(2, 0, 1)[None]}
if noise := about["inputs"].get("noise"):
    cells = [
        -(-side // noise["multiple"]) * noise["multiple"] // noise["stride"] for side in (photo.height, photo.width)
    ]
    shape = (noise["shape"][0], 1, noise["shape"][2], *cells)
    inputs["noise"] = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
answers = onnxruntime.InferenceSession(str(model)).run(None, inputs)
for (name, output), answer in zip(about["outputs"].items(), answers, strict=True):
    np.save(f"{name}.npy", answer[0])
    print(f"{name}: {output['kind']} [{output['unit']}], {answer.shape[1]} channels, mean {answer.mean():.4g}")
