"""Optimising an image by its features: content and Gram losses inside a Sequential, LBFGS on the input, FGSM attack."""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from start import same_start
from torch import optim

rng = np.random.default_rng(0)


class ContentLoss(nn.Module):
    def __init__(self, target):
        super().__init__()
        self.target = target.detach()

    def forward(self, input):
        self.loss = F.mse_loss(input, self.target)
        return input


def gram_matrix(input):
    a, b, c, d = input.size()
    features = input.view(a * b, c * d)
    G = torch.mm(features, features.t())
    return G.div(a * b * c * d)


class StyleLoss(nn.Module):
    def __init__(self, target_feature):
        super().__init__()
        self.target = gram_matrix(target_feature).detach()

    def forward(self, input):
        self.loss = F.mse_loss(gram_matrix(input), self.target)
        return input


class Normalization(nn.Module):
    def __init__(self, mean, std):
        super().__init__()
        self.mean, self.std = mean.clone().detach().view(-1, 1, 1), std.clone().detach().view(-1, 1, 1)

    def forward(self, img):
        return (img - self.mean) / self.std


cnn = same_start(nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1), nn.ReLU())).eval()
content, style = (torch.from_numpy(rng.random((1, 3, 10, 10)).astype("float32")) for _ in range(2))
model = nn.Sequential(Normalization(torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])))
content_losses, style_losses, i = [], [], 0
for layer in cnn.children():
    if isinstance(layer, nn.Conv2d):
        i += 1
        name = f"conv_{i}"
    else:
        name, layer = f"relu_{i}", nn.ReLU(inplace=False)
    model.add_module(name, layer)
    if name == "conv_2":
        content_losses.append(ContentLoss(model(content).detach()))
        model.add_module("content_loss", content_losses[-1])
    if name.startswith("conv"):
        style_losses.append(StyleLoss(model(style).detach()))
        model.add_module(f"style_loss_{i}", style_losses[-1])
model.eval()
model.requires_grad_(False)
input_img = content.clone()
input_img.requires_grad_(True)
optimizer = optim.LBFGS([input_img], max_iter=5)
run, scores = [0], []
while run[0] <= 15:

    def closure():
        with torch.no_grad():
            input_img.clamp_(0, 1)
        optimizer.zero_grad()
        model(input_img)
        style_score = sum(sl.loss for sl in style_losses) * 1e3
        content_score = sum(cl.loss for cl in content_losses)
        loss = style_score + content_score
        loss.backward()
        run[0] += 1
        scores.append(loss.item())
        return style_score + content_score

    optimizer.step(closure)
print(run, scores[0], scores[5])
assert scores[-1] < scores[0]

victim = same_start(nn.Sequential(nn.Flatten(), nn.Linear(300, 4)), 7)
image = content.clone().requires_grad_(True)
loss = F.cross_entropy(victim(image), torch.tensor([1]))
victim.zero_grad()
loss.backward()
attacked = torch.clamp(image + 0.05 * image.grad.data.sign(), 0, 1)
after = F.cross_entropy(victim(attacked), torch.tensor([1]))
print(loss.item(), after.item())
assert after > loss
