"""What PyTorch needs for the work that run.sh measures, on the same device: lines of key, mode, milliseconds.

peer.py STEPS [--quick] [--no-compile] PART ..., with the sizes of products and of attention on standard input. Every time is the
median over STEPS, after a warm-up, of the time from the end of one step to the end of the next, with the host running ahead as far
as it can. Products in f32 are f32: TF32 is off.
"""
import statistics
import sys

import torch
import torch.nn as nn
import torch.nn.functional as F

steps, options = int(sys.argv[1]), sys.argv[2:]
quick, compiled = "--quick" in options, "--no-compile" not in options
sizes = [line.split() for line in sys.stdin]  # part, numbers, type
device = torch.device("cuda")
torch.backends.cuda.matmul.allow_tf32 = False
torch.backends.cudnn.allow_tf32 = False


def median_ms(run, n=steps, warm_ms=300):
    start, now = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    while True:  # the clock of an idle device is low
        run()
        now.record()
        now.synchronize()
        if start.elapsed_time(now) > warm_ms:
            break
    ends = [torch.cuda.Event(enable_timing=True) for _ in range(n + 1)]
    ends[0].record()
    for end in ends[1:]:
        run()
        end.record()
    torch.cuda.synchronize()
    return statistics.median(a.elapsed_time(b) for a, b in zip(ends, ends[1:]))


def say(key, mode, ms):
    print(f"{key}\t{mode}\t{ms:.6f}", flush=True)


class Layer(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        b, t, d = x.shape
        q, k, v = (y.view(b, t, self.heads, -1).transpose(1, 2) for y in self.qkv(self.norm_1(x)).split(d, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, d))
        return x + self.down(F.gelu(self.up(self.norm_2(x)), approximate="tanh"))


class Transformer(nn.Module):  # GPT-2's shape; the head's weight is the embedding's
    def __init__(self, vocab, context, layers, width, heads):
        super().__init__()
        self.token, self.place = nn.Embedding(vocab, width), nn.Embedding(context, width)
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        for p in self.parameters():
            if p.dim() > 1:
                nn.init.normal_(p, std=0.02)

    def forward(self, tokens, targets):
        x = self.token(tokens) + self.place.weight[: tokens.shape[1]]
        for layer in self.layers:
            x = layer(x)
        logits = F.linear(self.norm(x), self.token.weight)
        return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())


def train(key, vocab, context, layers, width, heads, batch, bf16, modes):
    for mode in modes:
        if "compile" in mode and not compiled:
            continue
        try:
            torch.manual_seed(1)
            model = Transformer(vocab, context, layers, width, heads).to(device)
            graph = "graph" in mode
            optimizer = torch.optim.AdamW(model.parameters(), lr=6e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True,
                                          capturable=graph)
            tokens, targets = (torch.randint(vocab, (batch, context), device=device) for _ in range(2))
            loss_of = torch.compile(model) if "compile" in mode else model

            def step():
                with torch.autocast("cuda", dtype=torch.bfloat16, enabled=bf16):
                    loss = loss_of(tokens, targets)
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=True)
                optimizer.step()
                optimizer.zero_grad(set_to_none=not graph)

            run = step
            if graph:
                side = torch.cuda.Stream()
                side.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(side):
                    for _ in range(5):
                        step()
                torch.cuda.current_stream().wait_stream(side)
                whole = torch.cuda.CUDAGraph()
                with torch.cuda.graph(whole):
                    step()
                run = whole.replay
            say(key, mode, median_ms(run))
        except Exception as error:  # one mode that fails leaves its column empty
            print(f"peer.py: {key} {mode}: {str(error).splitlines()[0] if str(error) else error!r}", file=sys.stderr)
        torch._dynamo.reset()
        torch.cuda.empty_cache()


def gpt2():
    for vocab in (50304, 50257):
        modes = ["eager"] if quick or vocab % 64 else ["eager", "compile"]
        for batch in (16, 32):
            if not (quick and (vocab, batch) != (50304, 16)):
                train(f"gpt2 v{vocab} b{batch} bf16", vocab, 1024, 12, 768, 12, batch, True, modes)


def f32():
    for batch in (8,) if quick else (8, 16):
        train(f"gpt2 v50257 b{batch} f32", 50257, 1024, 12, 768, 12, batch, False, ["eager"])


def small():
    for batch, bf16 in ((5, True),) if quick else ((5, True), (32, True), (5, False), (32, False)):
        name = f"small b{batch} {'bf16' if bf16 else 'f32'}"
        train(name, 260, 128, 4, 256, 4, batch, bf16, ["eager", "compile+graph"] if bf16 else ["eager"])


def products():
    for m, n, k, name in (size[1:] for size in sizes if size[0] == "matmul"):
        kind = torch.bfloat16 if name == "bf16" else torch.float32
        a, b, dy = (torch.randn(shape, device=device, dtype=kind) for shape in ((int(m), int(k)), (int(k), int(n)), (int(m), int(n))))
        key = f"product {m}x{n}x{k} {name}"
        say(f"{key} ab", "eager", median_ms(lambda: a @ b, warm_ms=100))
        say(f"{key} dy bT", "eager", median_ms(lambda: dy @ b.t(), warm_ms=100))
        say(f"{key} aT dy", "eager", median_ms(lambda: a.t() @ dy, warm_ms=100))


def attention():
    for *size, name in (size[1:] for size in sizes if size[0] == "attention"):
        b, h, kv, t, c = map(int, size)
        kind = torch.bfloat16 if name == "bf16" else torch.float32
        q = torch.randn(b, h, t, c, device=device, dtype=kind, requires_grad=True)
        k, v = (torch.randn(b, kv, t, c, device=device, dtype=kind, requires_grad=True) for _ in range(2))
        more = {"enable_gqa": True} if kv != h else {}
        key = f"attention {b}x{h}/{kv}x{t}x{c} {name}"
        forward = lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True, **more)
        say(f"{key} forward", "eager", median_ms(forward, warm_ms=100))
        y = forward()
        g = torch.randn_like(y)
        say(f"{key} backward", "eager", median_ms(lambda: torch.autograd.grad(y, (q, k, v), g, retain_graph=True), warm_ms=100))


print(f"peer.py: PyTorch {torch.__version__}, {torch.cuda.get_device_name(device)}", file=sys.stderr)
for part, run in {"gpt2": gpt2, "f32": f32, "small": small, "matmul": products, "attention": attention}.items():
    if part in options:
        run()
