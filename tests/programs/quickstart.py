import os, tempfile
import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset, DataLoader, random_split, Subset, SubsetRandomSampler, WeightedRandomSampler, BatchSampler, SequentialSampler, ConcatDataset
from start import same_start

rng = np.random.default_rng(0)


class ToTensor:
    def __call__(self, pic):
        return torch.from_numpy(pic.transpose((2, 0, 1))).contiguous().to(dtype=torch.get_default_dtype()).div(255)


class Lambda:
    def __init__(self, f):
        self.f = f

    def __call__(self, x):
        return self.f(x)


class CustomImageDataset(Dataset):
    def __init__(self, n, transform=None, target_transform=None):
        self.img_labels = rng.integers(0, 10, n)
        self.images = rng.integers(0, 255, (n, 28, 28, 1)).astype(np.uint8)
        for im, l in zip(self.images, self.img_labels):
            im[l * 2:l * 2 + 6] = 255
        self.transform = transform
        self.target_transform = target_transform

    def __len__(self):
        return len(self.img_labels)

    def __getitem__(self, idx):
        image = self.images[idx]
        label = int(self.img_labels[idx])
        if self.transform:
            image = self.transform(image)
        if self.target_transform:
            label = self.target_transform(label)
        return image, label


training_data = CustomImageDataset(256, transform=ToTensor())
test_data = CustomImageDataset(64, transform=ToTensor(), target_transform=Lambda(lambda y: torch.zeros(10, dtype=torch.float).scatter_(0, torch.tensor(y), value=1)))
train_dataloader = DataLoader(training_data, batch_size=64)
test_dataloader = DataLoader(test_data, batch_size=48)
for X, y in test_dataloader:
    print(f"Shape of X [N, C, H, W]: {X.shape}")
    print(f"Shape of y: {y.shape} {y.dtype}")
device = torch.accelerator.current_accelerator().type if torch.accelerator.is_available() else "cpu"
print(f"Using {device} device")


class NeuralNetwork(nn.Module):
    def __init__(self):
        super().__init__()
        self.flatten = nn.Flatten()
        self.linear_relu_stack = nn.Sequential(
            nn.Linear(28*28, 64),
            nn.ReLU(),
            nn.Linear(64, 64),
            nn.ReLU(),
            nn.Linear(64, 10)
        )

    def forward(self, x):
        x = self.flatten(x)
        logits = self.linear_relu_stack(x)
        return logits


model = same_start(NeuralNetwork()).to(device)
print(model)
for name, param in model.named_parameters():
    print(f"Layer: {name} | Size: {param.size()} | Values : {param[:2]} \n")
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=1e-1)


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
        if batch % 2 == 0:
            loss, current = loss.item(), (batch + 1) * len(X)
            print(f"loss: {loss:>7f}  [{current:>5d}/{size:>5d}]")


def test(dataloader, model, loss_fn):
    size = len(dataloader.dataset)
    num_batches = len(dataloader)
    model.eval()
    test_loss, correct = 0, 0
    with torch.no_grad():
        for X, y in dataloader:
            X, y = X.to(device), y.to(device)
            pred = model(X)
            test_loss += loss_fn(pred, y).item()
            correct += (pred.argmax(1) == y.argmax(1)).type(torch.float).sum().item()
    test_loss /= num_batches
    correct /= size
    print(f"Test Error: \n Accuracy: {(100*correct):>0.1f}%, Avg loss: {test_loss:>8f} \n")


for t in range(3):
    print(f"Epoch {t+1}\n-------------------------------")
    train(train_dataloader, model, loss_fn, optimizer)
    test(test_dataloader, model, loss_fn)
with tempfile.TemporaryDirectory() as d:
    f = os.path.join(d, "model.pth")
    torch.save(model.state_dict(), f)
    m2 = NeuralNetwork().to(device)
    print(m2.load_state_dict(torch.load(f, weights_only=True)))
model = m2
model.eval()
x, y = test_data[0][0], test_data[0][1]
with torch.no_grad():
    x = x.to(device)
    pred = model(x)
    predicted, actual = pred[0].argmax(0), y.argmax(0)
    print(f'Predicted: "{predicted}", Actual: "{actual}"')
soft = nn.Softmax(dim=1)(pred)
print(soft.sum(), f"{soft.max():.3f}", pred.shape)

# samplers and splits
g = torch.Generator().manual_seed(42)
a, b = random_split(training_data, [200, 56], generator=g)
c, d, e = random_split(range(30), [0.3, 0.3, 0.4], generator=torch.Generator().manual_seed(42))
print(len(a), len(b), len(c), len(d), len(e), sorted([*c, *d, *e]) == list(range(30)))
sub = Subset(training_data, range(10))
dl = DataLoader(sub, sampler=SubsetRandomSampler(range(10)), batch_size=4, drop_last=True)
print(len(dl), [tuple(x.shape) for x, y in dl])
w = WeightedRandomSampler(weights=[0.1] * 9 + [10.0], num_samples=20, replacement=True)
print(len(list(w)), len(DataLoader(sub, batch_sampler=BatchSampler(SequentialSampler(sub), 3, False))))
print(len(ConcatDataset([sub, a])), len(sub + a))


def collate(batch):
    xs, ys = zip(*batch)
    return {"image": torch.stack(xs), "label": torch.as_tensor(ys), "n": len(xs)}


for batch in DataLoader(sub, batch_size=5, collate_fn=collate, num_workers=0, pin_memory=False):
    print(batch["image"].shape, batch["label"].tolist(), batch["n"])
it = iter(DataLoader([{"a": i, "b": np.float32(i), "c": [i, float(i)], "d": str(i), "e": (np.ones(2) * i)} for i in range(4)], batch_size=2))
print(next(it))
