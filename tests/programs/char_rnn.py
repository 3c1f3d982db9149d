"""A recurrent network with hand-made cells learns to continue a sentence, letter by letter."""

import torch
import torch.nn as nn
from start import same_start

text = "the quick brown fox jumps over the lazy dog. " * 4
letters = sorted(set(text))
number = {c: i for i, c in enumerate(letters)}


class RNN(nn.Module):
    def __init__(self, input_size, hidden_size, output_size):
        super(RNN, self).__init__()
        self.hidden_size = hidden_size
        self.i2h = nn.Linear(input_size + hidden_size, hidden_size)
        self.i2o = nn.Linear(input_size + hidden_size, output_size)
        self.softmax = nn.LogSoftmax(dim=1)

    def forward(self, input, hidden):
        combined = torch.cat((input, hidden), 1)
        hidden = torch.tanh(self.i2h(combined))
        return self.softmax(self.i2o(combined)), hidden

    def initHidden(self):
        return torch.zeros(1, self.hidden_size)


def line_to_tensor(line):
    tensor = torch.zeros(len(line), 1, len(letters))
    for li, letter in enumerate(line):
        tensor[li][0][number[letter]] = 1
    return tensor


rnn = same_start(RNN(len(letters), 32, len(letters)))
criterion = nn.NLLLoss()
learning_rate = 0.05
losses = []
for step in range(40):
    chunk = text[step % 20 : step % 20 + 13]
    hidden = rnn.initHidden()
    rnn.zero_grad()
    loss = 0
    inputs = line_to_tensor(chunk[:-1])
    target = torch.LongTensor([number[c] for c in chunk[1:]]).unsqueeze_(-1)
    for i in range(inputs.size(0)):
        output, hidden = rnn(inputs[i], hidden)
        loss += criterion(output, target[i])
    loss.backward()
    for p in rnn.parameters():
        p.data.add_(p.grad.data, alpha=-learning_rate)
    losses.append(loss.item() / inputs.size(0))
    if step % 10 == 0:
        print(step, "%.6f" % losses[-1])
print("last", losses[-1])
top_value, top_index = output.topk(1)
print(letters[top_index[0].item()], top_value[0][0].item())
assert losses[-1] < 0.9 * losses[0]
