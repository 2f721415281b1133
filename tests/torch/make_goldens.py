#!/usr/bin/env python3
"""Makes tests/torch/golden from PyTorch: the four models written a second time with torch.nn.functional, in float64.

stdlib/ holds values and gradients of the library's functions in stdlib.alpha. For each case of CASES: weights (exact in float32), tokens and targets, the loss
and the gradient of every parameter, and the losses of STEPS optimizer steps for each optimizer of OPTIMIZERS. Needs torch and safetensors; the tests that read the result
do not. Run from anywhere: python3 tests/torch/make_goldens.py

golden/<case>/dims                -D settings, one a line
golden/<case>/weights.safetensors parameters by path, F32
golden/<case>/grad_in.safetensors tokens, targets I32 [batch, context]
golden/<case>/grad.safetensors    loss and grad.<path>, F32
golden/<case>/data.safetensors    tokens, targets I32 [rows, context], rows in the order of training
golden/<case>/<optimizer>.train   the train block that the optimizer's run is compiled with
golden/<case>/<optimizer>.losses  one loss a line: before each update
"""
import math
import os
import shutil

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)
HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "golden")
BATCH = 3
STEPS = 10


# ---- the models: shapes(c) gives {path: shape}, logits(c, w, tokens) the forward pass ----

def heads(x, h):
    b, t, d = x.shape
    return x.view(b, t, h, d // h).transpose(1, 2)


def merge(x):
    b, h, t, c = x.shape
    return x.transpose(1, 2).reshape(b, t, h * c)


def norm(w, path, x):
    return F.layer_norm(x, (x.shape[-1],), w[path + ".weight"], w[path + ".bias"], 1e-5)


def linear_io(w, path, x):
    """weight [in, out], as nn.linear and GPT-2's checkpoint have it"""
    return F.linear(x, w[path + ".weight"].t(), w.get(path + ".bias"))


def linear_oi(w, path, x):
    """weight [out, in], as Llama's checkpoint has it"""
    return F.linear(x, w[path + ".weight"])


def norm_shapes(path, d):
    return {path + ".weight": (d,), path + ".bias": (d,)}


def linear_shapes(path, n_in, n_out, bias=True):
    s = {path + ".weight": (n_in, n_out)}
    if bias:
        s[path + ".bias"] = (n_out,)
    return s


def gpt2_shapes(c):
    d, s = c["width"], {"wte.weight": (c["vocab"], c["width"]), "wpe.weight": (c["context"], c["width"])}
    for i in range(c["layers"]):
        p = f"h.{i}."
        s |= norm_shapes(p + "ln_1", d) | linear_shapes(p + "attn.c_attn", d, 3 * d) | linear_shapes(p + "attn.c_proj", d, d)
        s |= norm_shapes(p + "ln_2", d) | linear_shapes(p + "mlp.c_fc", d, 4 * d) | linear_shapes(p + "mlp.c_proj", 4 * d, d)
    return s | norm_shapes("ln_f", d)


def gpt2_logits(c, w, tokens):
    x = F.embedding(tokens, w["wte.weight"]) + w["wpe.weight"][: tokens.shape[1]]
    for i in range(c["layers"]):
        p = f"h.{i}."
        q, k, v = linear_io(w, p + "attn.c_attn", norm(w, p + "ln_1", x)).chunk(3, -1)
        h = c["heads"]
        y = F.scaled_dot_product_attention(heads(q, h), heads(k, h), heads(v, h), is_causal=True)
        x = x + linear_io(w, p + "attn.c_proj", merge(y))
        y = F.gelu(linear_io(w, p + "mlp.c_fc", norm(w, p + "ln_2", x)), approximate="tanh")
        x = x + linear_io(w, p + "mlp.c_proj", y)
    return norm(w, "ln_f", x) @ w["wte.weight"].t()


def cajal_shapes(c):
    d, s = c["width"], {"token.weight": (c["vocab"], c["width"])}
    for i in range(c["layers"]):
        p = f"blocks.{i}."
        for name in "qkvo":
            s |= linear_shapes(p + name, d, d)
        s |= norm_shapes(p + "norm_1", d) | linear_shapes(p + "fc", d, c["hidden"])
        s |= linear_shapes(p + "proj", c["hidden"], d) | norm_shapes(p + "norm_2", d)
    return s | norm_shapes("norm", d) | linear_shapes("head", d, c["vocab"])


def cajal_logits(c, w, tokens):
    d, t = c["width"], tokens.shape[1]
    angle = torch.arange(t)[:, None] / 10000.0 ** (torch.arange(0, d, 2) / d)
    places = torch.empty(t, d)
    places[:, 0::2], places[:, 1::2] = angle.sin(), angle.cos()
    x = F.embedding(tokens, w["token.weight"]) + places
    for i in range(c["layers"]):
        p = f"blocks.{i}."
        q, k, v = (heads(linear_io(w, p + n, x), c["heads"]) for n in "qkv")
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = norm(w, p + "norm_1", x + linear_io(w, p + "o", merge(y)))
        y = F.gelu(linear_io(w, p + "fc", x), approximate="tanh")
        x = norm(w, p + "norm_2", x + linear_io(w, p + "proj", y))
    return linear_io(w, "head", norm(w, "norm", x))


def hlx_shapes(c):
    d, s = c["width"], {"token.weight": (c["vocab"], c["width"]), "place.weight": (c["context"], c["width"])}
    for i in range(c["layers"]):
        p = f"blocks.{i}."
        s |= norm_shapes(p + "norm_1", d)
        for name in ("q", "k", "v", "o") if c["mix"] else ("v", "o"):
            s |= linear_shapes(f"{p}mix.{name}_proj", d, d, False)
        s |= norm_shapes(p + "norm_2", d) | linear_shapes(p + "fc", d, c["hidden"]) | linear_shapes(p + "proj", c["hidden"], d)
    return s | norm_shapes("norm", d) | linear_shapes("head", d, c["vocab"], False)


def hlx_logits(c, w, tokens):
    x = F.embedding(tokens, w["token.weight"]) + w["place.weight"][: tokens.shape[1]]
    for i in range(c["layers"]):
        p = f"blocks.{i}."
        y = norm(w, p + "norm_1", x)
        v = linear_io(w, p + "mix.v_proj", y)
        if c["mix"]:
            q, k = (heads(linear_io(w, f"{p}mix.{n}_proj", y), c["heads"]) for n in "qk")
            v = merge(F.scaled_dot_product_attention(q, k, heads(v, c["heads"]), is_causal=True))
        x = x + linear_io(w, p + "mix.o_proj", v)
        y = F.gelu(linear_io(w, p + "fc", norm(w, p + "norm_2", x)), approximate="tanh")
        x = x + linear_io(w, p + "proj", y)
    return linear_io(w, "head", norm(w, "norm", x))


def llama_shapes(c):
    d, s = c["width"], {"model.embed_tokens.weight": (c["vocab"], c["width"])}
    q, kv = c["heads"] * c["head_dim"], c["kv_heads"] * c["head_dim"]
    for i in range(c["layers"]):
        p = f"model.layers.{i}."
        s[p + "input_layernorm.weight"] = s[p + "post_attention_layernorm.weight"] = (d,)
        for name, shape in (("q", (q, d)), ("k", (kv, d)), ("v", (kv, d)), ("o", (d, q))):
            s[f"{p}self_attn.{name}_proj.weight"] = shape
        for name, shape in (("gate", (c["hidden"], d)), ("up", (c["hidden"], d)), ("down", (d, c["hidden"]))):
            s[f"{p}mlp.{name}_proj.weight"] = shape
    s["model.norm.weight"] = (d,)
    if not c["tied"]:
        s["lm_head.weight"] = (c["vocab"], d)
    return s


def llama_logits(c, w, tokens):
    t, dim = tokens.shape[1], c["head_dim"]
    angle = torch.arange(t)[:, None] * c["rope_theta"] ** (-torch.arange(0, dim, 2) / dim)
    cos, sin = torch.cat([angle, angle], -1).cos(), torch.cat([angle, angle], -1).sin()

    def rope(x):
        u, v = x.chunk(2, -1)
        return x * cos + torch.cat([-v, u], -1) * sin

    def rms(path, x):
        return F.rms_norm(x, (x.shape[-1],), w[path + ".weight"], c["norm_eps"])

    x = F.embedding(tokens, w["model.embed_tokens.weight"])
    for i in range(c["layers"]):
        p = f"model.layers.{i}."
        y = rms(p + "input_layernorm", x)
        q = rope(heads(linear_oi(w, p + "self_attn.q_proj", y), c["heads"]))
        k = rope(heads(linear_oi(w, p + "self_attn.k_proj", y), c["kv_heads"]))
        v = heads(linear_oi(w, p + "self_attn.v_proj", y), c["kv_heads"])
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        x = x + linear_oi(w, p + "self_attn.o_proj", merge(y))
        y = rms(p + "post_attention_layernorm", x)
        y = F.silu(linear_oi(w, p + "mlp.gate_proj", y)) * linear_oi(w, p + "mlp.up_proj", y)
        x = x + linear_oi(w, p + "mlp.down_proj", y)
    x = rms("model.norm", x)
    return F.linear(x, w["model.embed_tokens.weight"] if c["tied"] else w["lm_head.weight"])


# ---- cases ----

GPT2 = dict(vocab=61, context=12, width=24, layers=2, heads=3)
CAJAL = dict(vocab=53, context=10, width=20, hidden=36, layers=2, heads=5)
HLX = dict(vocab=47, context=9, width=18, hidden=30, layers=2, heads=3, mix=False)
LLAMA = dict(vocab=59, context=11, width=20, hidden=28, layers=2, heads=4, kv_heads=2, head_dim=6, rope_theta=10000.0,
             norm_eps=1e-5, tied=False)
LEARN = dict(vocab=128, context=16, width=32, hidden=64, layers=2, heads=4, mix=False)

# The .alpha side of an optimizer run: text, and the same settings for PyTorch.
ADAMW = ("optim.adamw(beta1 = 0.9, beta2 = 0.95, weight_decay = 0.1)", "adamw", dict(betas=(0.9, 0.95), weight_decay=0.1))
ADAM = ("optim.adam(beta1 = 0.9, beta2 = 0.999, eps = 1e-8)", "adam", dict())
SGD = ("optim.sgd(momentum = 0.9, weight_decay = 0.01)", "sgd", dict(momentum=0.9, weight_decay=0.01))
NESTEROV = ("optim.sgd(momentum = 0.8, nesterov = true)", "sgd", dict(momentum=0.8, nesterov=True))
LION = ("optim.lion(beta1 = 0.9, beta2 = 0.99, weight_decay = 0.1)", "lion", dict(betas=(0.9, 0.99), weight_decay=0.1))


# PyTorch caps lr at 1 / sqrt(step), which stays above ours here. Only where no gradient is zero but for rounding, as a key's
# bias has it: Adafactor makes an update of such noise.
ADAFACTOR = ("optim.adafactor()", "adafactor", dict(eps=(1e-30, 1e-3)))
MUON = ("optim.muon(weight_decay = 0.1)", "muon", dict(weight_decay=0.1))


def constant(peak):
    return f"optim.constant(peak = {peak})", lambda step, total: peak


def ramp(step, warmup):
    return min(step / max(warmup, 1), 1)


def linear(peak, warmup, floor):
    def lr(step, total):
        x = min(max((step - warmup) / (total - warmup), 0), 1)
        return peak * ramp(step, warmup) * (1 - (1 - floor) * x)
    return f"optim.linear(peak = {peak}, warmup = {warmup}, floor = {floor})", lr


def warmup_stable_decay(peak, warmup, decay):
    def lr(step, total):
        return peak * ramp(step, warmup * total) * min(1, (total - step) / (decay * total))
    return f"optim.warmup_stable_decay(peak = {peak}, warmup = {warmup}, decay = {decay})", lr


def step_decay(peak, every, factor):
    return (f"optim.step_decay(peak = {peak}, every = {every}, factor = {factor})",
            lambda step, total: peak * factor ** ((step - 1) // every))


def warmup_cosine(peak, warmup, floor):
    def lr(step, total):
        w = max(warmup * total if warmup < 1 else warmup, 1)
        x = min(max((step - w) / (total - w), 0), 1)
        return peak * ramp(step, w) * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * x)))
    return f"optim.warmup_cosine(peak = {peak}, warmup = {warmup}, floor = {floor})", lr


CASES = {  # name: model, its module functions, configuration, smallest target id, clip
    "gpt2": ("gpt2", gpt2_shapes, gpt2_logits, GPT2, 0, 1.0),
    "cajal": ("cajal", cajal_shapes, cajal_logits, CAJAL, 0, 1.0),
    "hlx": ("hlx", hlx_shapes, hlx_logits, HLX, 0, 0),
    "hlx_mix": ("hlx", hlx_shapes, hlx_logits, HLX | dict(mix=True), 0, 0),
    "llama": ("llama", llama_shapes, llama_logits, LLAMA, 0, 1.0),
    "llama_tied": ("llama", llama_shapes, llama_logits, LLAMA | dict(tied=True, kv_heads=1), 0, 1.0),
}
OPTIMIZERS = {
    "gpt2": {"adamw": (ADAMW, warmup_cosine(0.01, 0.2, 0.1)), "adam": (ADAM, constant(0.01)),
             "sgd": (SGD, constant(0.1)), "lion": (LION, warmup_cosine(0.003, 2, 0.1)),
             "muon": (MUON, constant(0.02))},
    "cajal": {"adamw": (ADAMW, constant(0.003)), "adam": (ADAM, warmup_cosine(0.01, 0.25, 0)),
              "sgd": (NESTEROV, warmup_cosine(0.2, 3, 0.1)), "lion": (LION, constant(0.001))},
    "hlx_mix": {"adamw": (ADAMW, warmup_stable_decay(0.01, 0.2, 0.5)), "adam": (ADAM, linear(0.005, 3, 0.2)),
                "sgd": (SGD, step_decay(0.1, 3, 0.5)), "lion": (LION, constant(0.001))},
    "llama": {"adamw": (ADAMW, warmup_cosine(0.01, 0.05, 0.1)), "adam": (ADAM, constant(0.003)),
              "sgd": (SGD, warmup_cosine(0.1, 0.1, 0.5)), "lion": (LION, constant(0.001)),
              "adafactor": (ADAFACTOR, constant(0.05))},
}
IGNORE = {"cajal": 0, "hlx": 0}


def loss_of(case, w, tokens, targets):
    model, _, logits, c = CASES[case][:4]
    x = logits(c, w, tokens)
    return F.cross_entropy(x.reshape(-1, x.shape[-1]), targets.reshape(-1), ignore_index=IGNORE.get(model, -100))


def make_weights(shapes, gen):
    """Large enough that no gradient is dull; gains around 1; exact in float32."""
    w = {}
    for path, shape in shapes.items():
        x = torch.randn(shape, generator=gen)
        x = 0.15 * x if len(shape) > 1 else (1 + 0.2 * x if path.endswith("weight") else 0.1 * x)
        w[path] = x.float().double()
    return w


def lion_step(w, state, lr, betas, weight_decay, decayed):
    for path, p in w.items():
        m = state.setdefault(path, torch.zeros_like(p))
        with torch.no_grad():
            u = torch.sign(betas[0] * m + (1 - betas[0]) * p.grad)
            m.mul_(betas[1]).add_(p.grad, alpha=1 - betas[1])
            p.sub_(lr * (u + (weight_decay * p if path in decayed else 0)))


def muon_step(w, state, lr, weight_decay, step):
    """Jordan's Muon in full precision for matrices, Adam for the others (none of them decayed)."""
    for path, p in w.items():
        g = p.grad
        m, v = state.setdefault(path, (torch.zeros_like(p), torch.zeros_like(p)))
        with torch.no_grad():
            if p.dim() == 2:
                m.lerp_(g, 0.05)
                x = g.lerp(m, 0.95)
                tall = x.shape[0] > x.shape[1]
                x = (x.t() if tall else x) / (x.norm() + 1e-7)
                for _ in range(5):
                    a = x @ x.t()
                    x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
                p.mul_(1 - lr * weight_decay)
                p.sub_(lr * max(1, p.shape[0] / p.shape[1]) ** 0.5 * (x.t() if tall else x))
            else:
                m.lerp_(g, 0.1)
                v.lerp_(g * g, 0.001)
                p.sub_(lr * (m / (1 - 0.9 ** step)) / ((v / (1 - 0.999 ** step)).sqrt() + 1e-8))


def train(case, weights, tokens, targets, optimizer, schedule, batch, steps, clip):
    """The losses of `steps` updates; rows in file order, from the start again at the end."""
    w = {k: v.clone().requires_grad_() for k, v in weights.items()}
    decayed = {k for k, v in w.items() if v.dim() >= 2}
    kind, settings = optimizer[1], dict(optimizer[2])
    opt, state = None, {}
    if kind not in ("lion", "muon"):
        decay = settings.pop("weight_decay", 0)
        groups = [dict(params=[v for k, v in w.items() if k in decayed], weight_decay=decay),
                  dict(params=[v for k, v in w.items() if k not in decayed], weight_decay=0)]
        make = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD,
                "adafactor": torch.optim.Adafactor}[kind]
        opt = make(groups, lr=1.0, **settings)
    losses = []
    for step in range(1, steps + 1):
        at = [(i + (step - 1) * batch) % len(tokens) for i in range(batch)]
        for p in w.values():
            p.grad = None
        loss = loss_of(case, w, tokens[at], targets[at])
        losses.append(loss.item())
        loss.backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(w.values(), clip)
        lr = schedule[1](step, steps)
        if kind == "lion":
            lion_step(w, state, lr, settings["betas"], settings["weight_decay"], decayed)
        elif kind == "muon":
            muon_step(w, state, lr, settings["weight_decay"], step)
        else:
            for group in opt.param_groups:
                group["lr"] = lr
            opt.step()
    return losses


def write_train(path, batch, context, optimizer, schedule, clip):
    with open(path, "w") as f:
        f.write(f"train {{\n  batch     = {batch}\n  context   = {context}\n  optimizer = {optimizer[0]}\n"
                f"  schedule  = {schedule[0]}\n  clip      = {clip}\n}}\n")


def write_lines(path, values):
    with open(path, "w") as f:
        f.writelines(f"{v:.9g}\n" if isinstance(v, float) else f"{v}\n" for v in values)


def int32(x):
    return x.to(torch.int32).contiguous()


def settings(c):
    return [f"{k}={str(v).lower() if isinstance(v, bool) else v}" for k, v in c.items()]


def make_case(case, seed):
    model, shapes, _, c, low, clip = CASES[case]
    gen = torch.Generator().manual_seed(seed)
    weights = make_weights(shapes(c), gen)
    rows = 2 * BATCH  # so each row comes five times, and a wrong update shows
    tokens = torch.randint(low, c["vocab"], (rows, c["context"]), generator=gen)
    targets = torch.randint(low, c["vocab"], (rows, c["context"]), generator=gen)
    if model in IGNORE:
        targets[torch.rand(targets.shape, generator=gen) < 0.2] = IGNORE[model]
    folder = os.path.join(OUT, case)
    os.makedirs(folder)
    write_lines(os.path.join(folder, "dims"), [f"model {model}"] + settings(c))

    def save(name, tensors):
        save_file({k: v.contiguous() for k, v in tensors.items()}, os.path.join(folder, name + ".safetensors"))

    save("weights", {k: v.float() for k, v in weights.items()})
    save("data", {"tokens": int32(tokens), "targets": int32(targets)})
    save("grad_in", {"tokens": int32(tokens[:BATCH]), "targets": int32(targets[:BATCH])})
    w = {k: v.clone().requires_grad_() for k, v in weights.items()}
    loss = loss_of(case, w, tokens[:BATCH], targets[:BATCH])
    loss.backward()
    save("grad", {"loss": loss.detach().float()} | {f"grad.{k}": v.grad.float() for k, v in w.items()})
    for name, (optimizer, schedule) in OPTIMIZERS.get(case, {"adam": (ADAM, constant(0.003))}).items():
        losses = train(case, weights, tokens, targets, optimizer, schedule, BATCH, STEPS, clip)
        write_train(os.path.join(folder, name + ".train"), BATCH, c["context"], optimizer, schedule, clip)
        write_lines(os.path.join(folder, name + ".losses"), losses)
        print(f"{case:12} {name:8}", " ".join(f"{x:.4f}" for x in losses))


# Sixteen rows to learn by heart: a row's tokens are the first 15 characters, its targets the 15 after the first; 0 pads.
ROWS = ["Winter barley, sown", "Summer rye, reaped", "Turn the page over", "Bread from the oven",
        "A ladder of rope", "Copper kettle sings", "Rain over the hills", "Letters in a drawer",
        "Salt and pepper pot", "Lanterns along a quay", "Walnut, oak and ash", "Ships in the harbour",
        "Snow on the railway", "Chalk on the board", "Tin whistle and drum", "Clocks in the tower"]


def learn_rows():
    tokens = [list(row[:15].encode()) + [0] for row in ROWS]
    targets = [list(row[1:16].encode()) + [0] for row in ROWS]
    return torch.tensor(tokens), torch.tensor(targets)


def make_learn():
    """hlx at a small width on rows of its kind: 20 steps are five epochs."""
    case = "learn"
    CASES[case] = ("hlx", hlx_shapes, hlx_logits, LEARN, 0, 0)
    folder = os.path.join(OUT, case)
    os.makedirs(folder)
    tokens, targets = learn_rows()
    save_file({"tokens": int32(tokens), "targets": int32(targets)}, os.path.join(folder, "data.safetensors"))
    weights = make_weights(hlx_shapes(LEARN), torch.Generator().manual_seed(77))
    save_file({k: v.float().contiguous() for k, v in weights.items()}, os.path.join(folder, "weights.safetensors"))
    write_lines(os.path.join(folder, "dims"), ["model hlx"] + settings(LEARN))
    optimizer, schedule = ADAM, constant(0.001)
    losses = train(case, weights, tokens, targets, optimizer, schedule, 4, 20, 0)
    write_train(os.path.join(folder, "adam.train"), 4, LEARN["context"], optimizer, schedule, 0)
    write_lines(os.path.join(folder, "adam.losses"), losses)
    print(f"{case:12} adam    ", " ".join(f"{x:.4f}" for x in losses))


def attend(q, k, v, visible, scale=None, cap=0.0, bias=0.0):
    """softmax by definition; rows that see nothing give 0"""
    g = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(g, 1), v.repeat_interleave(g, 1)
    s = q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    s = (cap * torch.tanh(s / cap) if cap else s) + bias
    seen = visible.expand(s.shape)
    empty = ~seen.any(-1, keepdim=True)
    p = torch.softmax(s.masked_fill(~seen & ~empty, -math.inf), -1)
    return p.masked_fill(empty, 0) @ v


def stdlib_values(w, targets, mask):
    q, k, v, wide, x = w["q"], w["k"], w["w"], w["wide"], w["x"]
    b, t, c = q.shape[0], q.shape[2], q.shape[3]
    i, j = torch.arange(t)[:, None], torch.arange(t)[None]
    causal, every, mask = j <= i, torch.ones(t, t, dtype=torch.bool), mask != 0

    def rope(positions, theta):
        angle = positions[..., None] * theta ** (-torch.arange(0, c, 2) / c)
        angle = torch.cat([angle, angle], -1)
        u, r = q.chunk(2, -1)
        return q * angle.cos() + torch.cat([-r, u], -1) * angle.sin()

    def entropy(x, y, ignore=-100, smoothing=0.0):
        return F.cross_entropy(x.reshape(-1, x.shape[-1]), y.reshape(-1), ignore_index=ignore, label_smoothing=smoothing)

    e = F.embedding(targets, w["loose.weight"])
    kept = targets != 5
    return [
        F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True),
        F.scaled_dot_product_attention(q, k, v, scale=0.3, enable_gqa=True),
        attend(q, k, v, causal & (i - j < 3)),
        attend(wide, wide, q, (i - j).abs() < 2),
        attend(q, k, v, causal, cap=2.0),
        attend(q, k, v, mask),
        attend(q, k, v, mask & causal, bias=w["bias"]),
        rope(torch.arange(t), 100.0),
        rope(targets[:, None] / 2.5, 100.0),
        x.softmax(1), (30 * x).log_softmax(-1),
        F.gelu(3 * x, approximate="tanh"), F.gelu(3 * x), F.silu(3 * x),
        F.linear(e, w["plain.weight"].t()), (e * w["rows"][..., None]) @ w["loose.weight"].t(),
        entropy(x, targets), entropy(20 * x, targets, 3, 0.1),
        entropy(x, torch.where(kept, targets, -15), -15) + 0.01 * (x.logsumexp(-1) ** 2 * kept).sum() / kept.sum(),
        entropy(x[0, :1], targets[0, :1], smoothing=0.2),
    ]


def make_stdlib():
    gen = torch.Generator().manual_seed(5)
    b, t, h, c, v = 2, 7, 6, 4, 11
    shapes = {"q": (b, h, t, c), "k": (b, 2, t, c), "w": (b, 2, t, c), "wide": (b, h, t, c), "bias": (h, t, t),
              "x": (b, t, v), "rows": (b, t), "loose.weight": (v, c), "plain.weight": (c, 3)}
    w = {k: torch.randn(s, generator=gen).float().double().requires_grad_() for k, s in shapes.items()}
    targets = torch.randint(0, v, (b, t), generator=gen)
    targets[0, :3] = torch.tensor([7, 3, 5])
    mask = (torch.rand((t, t), generator=gen) < 0.6).long()
    mask[0] = 0
    folder = os.path.join(OUT, "stdlib")
    os.makedirs(folder)
    values = stdlib_values(w, targets, mask)
    loss = sum((x.reshape(-1) * torch.sin(0.7 * torch.arange(x.numel()) + 0.3)).mean() for x in values)
    loss.backward()
    for name, tensors in {
        "weights": {k: x.detach().float() for k, x in w.items()},
        "grad_in": {"targets": int32(targets), "mask": int32(mask)},
        "grad": {"loss": loss.detach().float()} | {f"grad.{k}": x.grad.float() for k, x in w.items()},
        "values": {f"result.{n}": x.detach().float().contiguous() for n, x in enumerate(values)},
    }.items():
        save_file(tensors, os.path.join(folder, name + ".safetensors"))


if __name__ == "__main__":
    shutil.rmtree(OUT, ignore_errors=True)
    os.makedirs(OUT)
    for number, case in enumerate(list(CASES)):
        make_case(case, 1000 + number)
    make_learn()
    make_stdlib()
