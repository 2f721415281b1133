#!/usr/bin/env python3
"""Our safetensors files read by the safetensors package, and its files read by ours. Run in development:

    python3 tests/torch/interop.py ALPHAC

Trains the golden gpt2 for two steps, opens checkpoint and outputs with the package and looks at every name, type, shape and value;
then writes the same weights with the package, in other types and with metadata, and compares losses that a runner gets from them.
"""
import glob
import os
import subprocess
import sys
import tempfile

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

HERE = os.path.dirname(os.path.abspath(__file__))
CASE = os.path.join(HERE, "golden", "gpt2")


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


def check(condition, what):
    print(("ok    " if condition else "WRONG ") + what)
    if not condition:
        sys.exit(1)


def main(alphac):
    work = tempfile.mkdtemp()
    with open(os.path.join(CASE, "dims")) as f:
        dims = f.read().split("\n")[1:-1]
    with open(os.path.join(HERE, "..", "..", "models", "gpt2.alpha")) as f:
        text = f.read().split("train {")[0]
    with open(os.path.join(CASE, "adamw.train")) as f:
        text += f.read()
    source, runner = os.path.join(work, "gpt2.alpha"), os.path.join(work, "gpt2")
    with open(source, "w") as f:
        f.write(text)
    run(alphac, source, "-o", runner, *(x for d in dims for x in ("-D", d)))

    golden = load_file(os.path.join(CASE, "weights.safetensors"))
    out = os.path.join(work, "out")
    run(runner, "train", "--weights", os.path.join(CASE, "weights.safetensors"), "--data",
        os.path.join(CASE, "data.safetensors"), "--steps", "2", "--out", out)
    files = sorted(glob.glob(out + "/**/*.safetensors", recursive=True))
    check(files, f"a checkpoint: {[os.path.relpath(f, out) for f in files]}")
    with safe_open(files[-1], "pt") as f:
        names, meta = set(f.keys()), f.metadata()
        check(names >= set(golden), "every parameter by its path")
        check(all(f.get_tensor(k).shape == v.shape and f.get_tensor(k).dtype == torch.float32 for k, v in golden.items()),
              "their shapes and types")
        check(all(f.get_tensor(k).isfinite().all() for k in golden), "finite values")
        check(all(0 < (f.get_tensor(k) - v).abs().max() < 0.1 for k, v in golden.items()), "moved, and not far")
        check({f"optim.{s}.{k}" for s in "mv" for k in golden} <= names, "the optimizer's states")
        check(meta and all(isinstance(v, str) for v in meta.values()), f"metadata: {sorted(meta or {})}")

    def loss_from(weights):
        result = os.path.join(work, "grad.safetensors")
        run(runner, "run", "grad", "--weights", weights, "--inputs", os.path.join(CASE, "grad_in.safetensors"),
            "--outputs", result)
        return load_file(result)

    want = loss_from(os.path.join(CASE, "weights.safetensors"))
    golden_grad = load_file(os.path.join(CASE, "grad.safetensors"))
    check(set(want) == set(golden_grad) and all(want[k].shape == v.shape for k, v in golden_grad.items()),
          "outputs of run, names and shapes")
    check(all(torch.allclose(want[k], v, rtol=1e-3, atol=1e-5) for k, v in golden_grad.items()), "outputs of run, values")

    def written(name, tensors):
        path = os.path.join(work, name + ".safetensors")
        save_file(tensors, path, metadata={"format": "pt", "note": "ä \"quoted\" \\ text"})
        return path

    check(torch.equal(loss_from(written("f32", golden))["loss"], want["loss"]), "F32 with metadata from the package")
    check(torch.equal(loss_from(written("f64", {k: v.double() for k, v in golden.items()}))["loss"], want["loss"]),
          "F64 from the package")
    for dtype in (torch.bfloat16, torch.float16):
        half = {k: v.to(dtype) for k, v in golden.items()}
        same = {k: v.float() for k, v in half.items()}
        check(torch.equal(loss_from(written("half", half))["loss"], loss_from(written("same", same))["loss"]),
              f"{dtype} from the package")
    extra = dict(golden) | {"h.0.attn.bias": torch.tensor(np.tril(np.ones((1, 1, 12, 12))))}
    print("a file with a tensor that the model lacks:", end=" ")
    done = subprocess.run([runner, "eval", "--weights", written("extra", extra), "--data",
                           os.path.join(CASE, "data.safetensors")], capture_output=True, text=True)
    print(done.returncode, (done.stderr or done.stdout).strip().split("\n")[-1])


if __name__ == "__main__":
    main(sys.argv[1])
