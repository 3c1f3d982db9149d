"""A bidirectional LSTM over packed sequences of different lengths tells rising from falling ones."""

import numpy as np
import torch
import torch.nn as nn
from start import same_start
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

rng = np.random.RandomState(0)


class Classifier(nn.Module):
    def __init__(self, vocab, dim, hidden):
        super().__init__()
        self.embedding = nn.Embedding(vocab, dim, padding_idx=0)
        self.lstm = nn.LSTM(dim, hidden, num_layers=2, bidirectional=True, batch_first=True, dropout=0.0)
        self.fc = nn.Linear(hidden * 2, 1)

    def forward(self, text, lengths):
        packed = pack_padded_sequence(self.embedding(text), lengths.cpu(), batch_first=True, enforce_sorted=False)
        packed_output, (hidden, cell) = self.lstm(packed)
        output, output_lengths = pad_packed_sequence(packed_output, batch_first=True)
        assert output.shape[:2] == text.shape and torch.equal(output_lengths, lengths)
        hidden = torch.cat((hidden[-2, :, :], hidden[-1, :, :]), dim=1)
        return self.fc(hidden).squeeze(1)


def batch():
    sequences, labels = [], []
    for _ in range(16):
        s = np.sort(rng.randint(1, 20, rng.randint(3, 9)))
        up = rng.rand() < 0.5
        sequences.append(torch.from_numpy(s if up else s[::-1].copy()))
        labels.append(float(up))
    return pad_sequence(sequences, batch_first=True), torch.tensor([len(s) for s in sequences]), torch.tensor(labels)


model = same_start(Classifier(20, 8, 12))
optimizer = torch.optim.RMSprop(model.parameters(), lr=0.01)
criterion = nn.BCEWithLogitsLoss()
losses = []
for step in range(25):
    text, lengths, labels = batch()
    optimizer.zero_grad()
    predictions = model(text, lengths)
    loss = criterion(predictions, labels)
    loss.backward()
    nn.utils.clip_grad_value_(model.parameters(), 0.5)
    optimizer.step()
    rounded = torch.round(torch.sigmoid(predictions))
    accuracy = (rounded == labels).float().sum() / len(rounded)
    losses.append(loss.item())
    if step % 6 == 0:
        print(f"{step} {loss.item():.5f} {accuracy.item():.2f}")
print(model.embedding.weight.grad[0].abs().sum().item(), model.embedding.weight.grad.norm().item())
assert sum(losses[-5:]) < sum(losses[:5])
