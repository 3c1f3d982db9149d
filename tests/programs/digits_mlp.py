"""The quick-start: Dataset, DataLoader, Module, train_loop and test_loop, SGD; printing the model and its state."""

import time

import numpy as np
import torch
from start import same_start
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

torch.manual_seed(42)
np.random.seed(42)
device = torch.accelerator.current_accelerator().type if torch.accelerator.is_available() else "cpu"
print(f"Using {device} device")
pixels = np.random.rand(500, 8, 8).astype(np.float32)
target = (pixels[:, :4].mean((1, 2)) > pixels[:, 4:].mean((1, 2))).astype(np.int64)
dataset = TensorDataset(torch.as_tensor(pixels), torch.as_tensor(target))
a, b = random_split(dataset, [0.8, 0.2], generator=torch.Generator().manual_seed(0))
assert len(a) == 400
assert len(b) == 100
train_dataloader = DataLoader(TensorDataset(*dataset[:400]), batch_size=64)
test_dataloader = DataLoader(TensorDataset(*dataset[400:]), batch_size=64)
for X, y in test_dataloader:
    print(f"Shape of X [N, H, W]: {X.shape}")
    print(f"Shape of y: {y.shape} {y.dtype}")
    break


class NeuralNetwork(nn.Module):
    def __init__(self):
        super().__init__()
        self.flatten = nn.Flatten()
        self.linear_relu_stack = nn.Sequential(
            nn.Linear(8 * 8, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 2)
        )

    def forward(self, x):
        return self.linear_relu_stack(self.flatten(x))


model = same_start(NeuralNetwork().to(device))
print(model)
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.2)


def train(dataloader, model, loss_fn, optimizer):
    size = len(dataloader.dataset)
    model.train()
    for batch, (X, y) in enumerate(dataloader):
        X, y = X.to(device), y.to(device)
        pred = model(X)
        loss = loss_fn(pred, y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if batch % 3 == 0:
            loss, current = loss.item(), (batch + 1) * len(X)
            print(f"loss: {loss:>7f}  [{current:>5d}/{size:>5d}]")


def test(dataloader, model, loss_fn):
    size, num_batches = len(dataloader.dataset), len(dataloader)
    model.eval()
    test_loss, correct = 0, 0
    with torch.no_grad():
        for X, y in dataloader:
            pred = model(X)
            test_loss += loss_fn(pred, y).item()
            correct += (pred.argmax(1) == y).type(torch.float).sum().item()
    test_loss /= num_batches
    correct /= size
    print(f"Test Error: \n Accuracy: {(100 * correct):>0.1f}%, Avg loss: {test_loss:>8f} \n")
    return test_loss


start = time.time()
first = test(test_dataloader, model, loss_fn)
for t in range(8):
    train(train_dataloader, model, loss_fn, optimizer)
    last = test(test_dataloader, model, loss_fn)
for param_tensor in model.state_dict():
    print(param_tensor, "\t", model.state_dict()[param_tensor].size())
for name, param in model.named_parameters():
    print(f"Layer: {name} | Size: {param.size()} | Values: {param[:2].detach().flatten()[:2]}")
x = torch.ones(5)
y = torch.zeros(3)
w = torch.ones(5, 3, requires_grad=True)
bias = torch.zeros(3, requires_grad=True)
loss = torch.nn.functional.binary_cross_entropy_with_logits(torch.matmul(x, w) + bias, y)
loss.backward()
print(loss.item(), w.grad, bias.grad, sep="\n")
print(torch.rand_like(x, dtype=torch.float).shape, torch.tensor([[1, 2], [3, 4]]), torch.zeros(2, 3).dtype)
np.testing.assert_allclose(np.asarray(x), 1)
assert last < first
assert time.time() >= start
