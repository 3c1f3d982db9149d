"""TransformerEncoder with positional encoding and padding mask, warm-up by LambdaLR; then the decoder stack once."""

import math

import numpy as np
import torch
from start import same_start
from torch import Tensor, nn
from torch.nn import TransformerEncoder, TransformerEncoderLayer


class PositionalEncoding(nn.Module):
    def __init__(self, d_model: int, dropout: float = 0.1, max_len: int = 50):
        super().__init__()
        self.dropout = nn.Dropout(p=dropout)
        position = torch.arange(max_len).unsqueeze(1)
        div_term = torch.exp(torch.arange(0, d_model, 2) * (-math.log(10000.0) / d_model))
        pe = torch.zeros(max_len, 1, d_model)
        pe[:, 0, 0::2] = torch.sin(position * div_term)
        pe[:, 0, 1::2] = torch.cos(position * div_term)
        self.register_buffer("pe", pe, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(x + self.pe[: x.size(0)])


class Model(nn.Module):
    def __init__(self, ntoken, d_model, nhead, d_hid, nlayers, dropout=0.0):
        super().__init__()
        self.pos_encoder = PositionalEncoding(d_model, dropout)
        layer = TransformerEncoderLayer(d_model, nhead, d_hid, dropout, activation="gelu")
        self.transformer_encoder = TransformerEncoder(layer, nlayers, enable_nested_tensor=False)
        self.embedding = nn.Embedding(ntoken, d_model)
        self.d_model = d_model
        self.linear = nn.Linear(d_model, 2)

    def forward(self, src, src_key_padding_mask=None):
        x = self.pos_encoder(self.embedding(src) * math.sqrt(self.d_model))
        x = self.transformer_encoder(x, src_key_padding_mask=src_key_padding_mask)
        return self.linear(x.mean(dim=0))


rng = np.random.default_rng(0)
model = same_start(Model(10, 16, 4, 32, 2))
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 5))
losses = []
for step in range(20):
    src = torch.from_numpy(rng.integers(1, 10, (7, 24)))
    mask = torch.from_numpy(np.arange(7)[None, :] >= rng.integers(4, 8, 24)[:, None])
    label = (src.t().masked_fill(mask, 0).sum(1) > 24).long()
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(src, mask), label)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
    optimizer.step()
    scheduler.step()
    losses.append(loss.item())
    if step % 5 == 0:
        print(step, loss.item(), scheduler.get_last_lr()[0])
assert min(losses[-5:]) < losses[0]

full = same_start(nn.Transformer(16, 2, 1, 1, 24, dropout=0.0, batch_first=True, norm_first=True), 3)
tgt_mask = nn.Transformer.generate_square_subsequent_mask(5)
src, tgt = (torch.from_numpy(rng.standard_normal((3, n, 16))).float() for n in (6, 5))
out = full(src, tgt, tgt_mask=tgt_mask)
out.pow(2).mean().backward()
print(out.shape, out.mean().item(), sum(p.grad.abs().sum() for p in full.parameters()).item())
