"""VQ-VAE, RealNVP, DDPM, EBM, MDN, Bayes by backprop"""
import math
from functools import partial
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import distributions as D
from torch.distributions import Normal, MixtureSameFamily, Categorical, Uniform, Bernoulli
from start import same_start, noise

rng = np.random.default_rng(0)


class VectorQuantizer(nn.Module):
    def __init__(self, num_embeddings, embedding_dim, commitment_cost):
        super(VectorQuantizer, self).__init__()
        self._embedding_dim = embedding_dim
        self._num_embeddings = num_embeddings
        self._embedding = nn.Embedding(self._num_embeddings, self._embedding_dim)
        self._embedding.weight.data.uniform_(-1/self._num_embeddings, 1/self._num_embeddings)
        self._commitment_cost = commitment_cost

    def forward(self, inputs):
        inputs = inputs.permute(0, 2, 3, 1).contiguous()
        input_shape = inputs.shape
        flat_input = inputs.view(-1, self._embedding_dim)
        distances = (torch.sum(flat_input**2, dim=1, keepdim=True)
                    + torch.sum(self._embedding.weight**2, dim=1)
                    - 2 * torch.matmul(flat_input, self._embedding.weight.t()))
        encoding_indices = torch.argmin(distances, dim=1).unsqueeze(1)
        encodings = torch.zeros(encoding_indices.shape[0], self._num_embeddings, device=inputs.device)
        encodings.scatter_(1, encoding_indices, 1)
        quantized = torch.matmul(encodings, self._embedding.weight).view(input_shape)
        e_latent_loss = F.mse_loss(quantized.detach(), inputs)
        q_latent_loss = F.mse_loss(quantized, inputs.detach())
        loss = q_latent_loss + self._commitment_cost * e_latent_loss
        quantized = inputs + (quantized - inputs).detach()
        avg_probs = torch.mean(encodings, dim=0)
        perplexity = torch.exp(-torch.sum(avg_probs * torch.log(avg_probs + 1e-10)))
        return loss, quantized.permute(0, 3, 1, 2).contiguous(), perplexity, encodings


class VectorQuantizerEMA(nn.Module):
    def __init__(self, n, dim, decay=0.9, epsilon=1e-5):
        super().__init__()
        self.register_buffer('_ema_cluster_size', torch.zeros(n))
        self._ema_w = nn.Parameter(torch.Tensor(n, dim))
        self._ema_w.data.normal_()
        self.embedding = nn.Embedding(n, dim)
        self.decay, self.epsilon, self.n = decay, epsilon, n

    def forward(self, x):
        d = torch.cdist(x.detach(), self.embedding.weight)
        idx = d.argmin(1)
        enc = F.one_hot(idx, self.n).type(x.dtype)
        q = self.embedding(idx)
        if self.training:
            self._ema_cluster_size = self._ema_cluster_size * self.decay + (1 - self.decay) * torch.sum(enc, 0)
            n = torch.sum(self._ema_cluster_size.data)
            self._ema_cluster_size = ((self._ema_cluster_size + self.epsilon) / (n + self.n * self.epsilon) * n)
            dw = torch.matmul(enc.t(), x)
            self._ema_w = nn.Parameter(self._ema_w * self.decay + (1 - self.decay) * dw)
            self.embedding.weight = nn.Parameter(self._ema_w / self._ema_cluster_size.unsqueeze(1))
        return x + (q - x).detach(), 0.25 * F.mse_loss(q.detach(), x)


class Residual(nn.Module):
    def __init__(self, c):
        super().__init__()
        self._block = nn.Sequential(nn.ReLU(True), nn.Conv2d(c, 4, 3, 1, 1, bias=False), nn.ReLU(True), nn.Conv2d(4, c, 1, 1, bias=False))

    def forward(self, x):
        return x + self._block(x)


class VQVAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = nn.Sequential(nn.Conv2d(1, 8, 4, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), Residual(8), nn.Conv2d(8, 4, 1))
        self.vq = VectorQuantizer(16, 4, 0.25)
        self.dec = nn.Sequential(nn.Conv2d(4, 8, 3, 1, 1), Residual(8), nn.ConvTranspose2d(8, 1, 4, 2, 1))

    def forward(self, x):
        z = self.enc(x)
        loss, quantized, perplexity, _ = self.vq(z)
        return loss, self.dec(quantized), perplexity


model = same_start(VQVAE())
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, amsgrad=False)
X = noise(rng, 16, 1, 8, 8)
data_variance = np.var(X.numpy())
for i in range(10):
    optimizer.zero_grad()
    vq_loss, data_recon, perplexity = model(X)
    recon_error = F.mse_loss(data_recon, X) / data_variance
    loss = recon_error + vq_loss
    loss.backward()
    optimizer.step()
print('recon_error: %.5f' % recon_error.item(), 'perplexity: %.4f' % perplexity.item())
ema = same_start(VectorQuantizerEMA(8, 3))
for _ in range(3):
    q, l = ema(noise(rng, 64, 3).requires_grad_())
print(l.item(), q.sum().item(), ema._ema_cluster_size.sum().item())


# RealNVP
class RealNVP(nn.Module):
    def __init__(self, nets, nett, mask, prior):
        super(RealNVP, self).__init__()
        self.prior = prior
        self.mask = nn.Parameter(mask, requires_grad=False)
        self.t = torch.nn.ModuleList([nett() for _ in range(len(mask))])
        self.s = torch.nn.ModuleList([nets() for _ in range(len(mask))])

    def g(self, z):
        x = z
        for i in range(len(self.t)):
            x_ = x*self.mask[i]
            s = self.s[i](x_)*(1 - self.mask[i])
            t = self.t[i](x_)*(1 - self.mask[i])
            x = x_ + (1 - self.mask[i]) * (x * torch.exp(s) + t)
        return x

    def f(self, x):
        log_det_J, z = x.new_zeros(x.shape[0]), x
        for i in reversed(range(len(self.t))):
            z_ = self.mask[i] * z
            s = self.s[i](z_) * (1-self.mask[i])
            t = self.t[i](z_) * (1-self.mask[i])
            z = (1 - self.mask[i]) * (z - t) * torch.exp(-s) + z_
            log_det_J -= s.sum(dim=1)
        return z, log_det_J

    def log_prob(self, x):
        z, logp = self.f(x)
        return self.prior.log_prob(z) + logp


nets = lambda: nn.Sequential(nn.Linear(2, 16), nn.LeakyReLU(), nn.Linear(16, 2), nn.Tanh())
nett = lambda: nn.Sequential(nn.Linear(2, 16), nn.LeakyReLU(), nn.Linear(16, 2))
masks = torch.from_numpy(np.array([[0, 1], [1, 0]] * 2).astype(np.float32))
prior = D.MultivariateNormal(torch.zeros(2), torch.eye(2))
flow = RealNVP(nets, nett, masks, prior)
for k, m in enumerate([*flow.s, *flow.t]):
    same_start(m, k)
optimizer = torch.optim.Adam([p for p in flow.parameters() if p.requires_grad == True], lr=1e-2)
moons = torch.stack([torch.linspace(0, 3, 64).cos(), torch.linspace(0, 3, 64).sin() * 0.5], 1) + 0.1 * noise(rng, 64, 2)
for t in range(15):
    loss = -flow.log_prob(moons).mean()
    optimizer.zero_grad()
    loss.backward(retain_graph=True)
    optimizer.step()
z = flow.f(moons)[0]
print('nvp %.5f' % loss, torch.allclose(flow.g(z), moons, atol=1e-4), prior.sample((3,)).shape)

# DDPM


def linear_beta_schedule(timesteps):
    return torch.linspace(0.0001, 0.02, timesteps)


def cosine_beta_schedule(timesteps, s=0.008):
    x = torch.linspace(0, timesteps, timesteps + 1)
    alphas_cumprod = torch.cos(((x / timesteps) + s) / (1 + s) * torch.pi * 0.5) ** 2
    alphas_cumprod = alphas_cumprod / alphas_cumprod[0]
    betas = 1 - (alphas_cumprod[1:] / alphas_cumprod[:-1])
    return torch.clip(betas, 0.0001, 0.9999)


timesteps = 20
betas = cosine_beta_schedule(timesteps=timesteps)
alphas = 1. - betas
alphas_cumprod = torch.cumprod(alphas, axis=0)
alphas_cumprod_prev = F.pad(alphas_cumprod[:-1], (1, 0), value=1.0)
sqrt_recip_alphas = torch.sqrt(1.0 / alphas)
sqrt_alphas_cumprod = torch.sqrt(alphas_cumprod)
sqrt_one_minus_alphas_cumprod = torch.sqrt(1. - alphas_cumprod)
posterior_variance = betas * (1. - alphas_cumprod_prev) / (1. - alphas_cumprod)


def extract(a, t, x_shape):
    batch_size = t.shape[0]
    out = a.gather(-1, t.cpu())
    return out.reshape(batch_size, *((1,) * (len(x_shape) - 1))).to(t.device)


class SinusoidalPositionEmbeddings(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.dim = dim

    def forward(self, time):
        device = time.device
        half_dim = self.dim // 2
        embeddings = math.log(10000) / (half_dim - 1)
        embeddings = torch.exp(torch.arange(half_dim, device=device) * -embeddings)
        embeddings = time[:, None] * embeddings[None, :]
        embeddings = torch.cat((embeddings.sin(), embeddings.cos()), dim=-1)
        return embeddings


class WeightStandardizedConv2d(nn.Conv2d):
    def forward(self, x):
        eps = 1e-5 if x.dtype == torch.float32 else 1e-3
        weight = self.weight
        mean = weight.mean(dim=(1, 2, 3), keepdim=True)
        var = torch.var(weight, dim=(1, 2, 3), keepdim=True, unbiased=False)
        normalized_weight = (weight - mean) / (var + eps).rsqrt()
        return F.conv2d(x, normalized_weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Block(nn.Module):
    def __init__(self, dim, dim_out, tdim, groups=2):
        super().__init__()
        self.proj = WeightStandardizedConv2d(dim, dim_out, 3, padding=1)
        self.norm = nn.GroupNorm(groups, dim_out)
        self.act = nn.SiLU()
        self.mlp = nn.Sequential(nn.SiLU(), nn.Linear(tdim, dim_out * 2))

    def forward(self, x, t):
        x = self.norm(self.proj(x))
        scale, shift = self.mlp(t)[:, :, None, None].chunk(2, dim=1)
        x = x * (scale + 1) + shift
        return self.act(x)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.time_mlp = nn.Sequential(SinusoidalPositionEmbeddings(8), nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 16))
        self.b1, self.b2 = Block(1, 8, 16), Block(8, 8, 16)
        self.down = nn.Conv2d(8, 8, 4, 2, 1)
        self.up = nn.Sequential(nn.Upsample(scale_factor=2, mode='nearest'), nn.Conv2d(8, 8, 3, padding=1))
        self.to_qkv = nn.Conv2d(8, 8 * 3, 1, bias=False)
        self.out = nn.Conv2d(16, 1, 1)

    def attn(self, x):
        b, c, h, w = x.shape
        q, k, v = (t.reshape(b, 2, 4, h * w) for t in self.to_qkv(x).chunk(3, dim=1))
        q = q * 4 ** -0.5
        sim = torch.einsum("b h d i, b h d j -> b h i j", q, k)
        sim = sim - sim.amax(dim=-1, keepdim=True).detach()
        attn = sim.softmax(dim=-1)
        out = torch.einsum("b h i j, b h d j -> b h i d", attn, v)
        return out.permute(0, 1, 3, 2).reshape(b, c, h, w) + x

    def forward(self, x, time):
        t = self.time_mlp(time)
        h = self.b1(x, t)
        y = self.attn(self.down(self.b2(h, t)))
        return self.out(torch.cat((self.up(y), h), dim=1))


net = same_start(Net())
opt = torch.optim.Adam(net.parameters(), lr=3e-3)
imgs = torch.zeros(8, 1, 8, 8); imgs[:, :, 2:6, 2:6] = 1
for step in range(8):
    opt.zero_grad()
    t = torch.from_numpy(rng.integers(0, timesteps, (8,))).long()
    eps = noise(rng, *imgs.shape)
    x_noisy = extract(sqrt_alphas_cumprod, t, imgs.shape) * imgs + extract(sqrt_one_minus_alphas_cumprod, t, imgs.shape) * eps
    predicted = net(x_noisy, t)
    loss = F.smooth_l1_loss(eps, predicted)
    loss.backward()
    opt.step()
print('ddpm', loss.item())


@torch.no_grad()
def p_sample(model, x, t, t_index):
    betas_t = extract(betas, t, x.shape)
    sqrt_one_minus = extract(sqrt_one_minus_alphas_cumprod, t, x.shape)
    model_mean = extract(sqrt_recip_alphas, t, x.shape) * (x - betas_t * model(x, t) / sqrt_one_minus)
    if t_index == 0:
        return model_mean
    return model_mean + torch.sqrt(extract(posterior_variance, t, x.shape)) * noise(rng, *x.shape)


img = noise(rng, 2, 1, 8, 8)
for i in reversed(range(0, 6)):
    img = p_sample(net, img, torch.full((2,), i, dtype=torch.long), i)
print(img.std().item())

# EBM with Langevin sampling
ebm = same_start(nn.Sequential(nn.Linear(2, 16), nn.SiLU(), nn.Linear(16, 1)))
opt = torch.optim.Adam(ebm.parameters(), lr=1e-2, betas=(0.0, 0.999))
for it in range(5):
    x = noise(rng, 32, 2)
    is_training = ebm.training
    ebm.eval()
    for p in ebm.parameters():
        p.requires_grad = False
    x.requires_grad = True
    had = torch.is_grad_enabled()
    torch.set_grad_enabled(True)
    for _ in range(4):
        x.data.add_(0.01 * noise(rng, 32, 2))
        out = -ebm(x)
        out.sum().backward()
        x.grad.data.clamp_(-0.3, 0.3)
        x.data.add_(-0.5 * x.grad.data)
        x.grad.detach_()
        x.grad.zero_()
    for p in ebm.parameters():
        p.requires_grad = True
    ebm.train(is_training)
    torch.set_grad_enabled(had)
    fake, real = x.detach(), moons[:32]
    r, f = ebm(torch.cat([real, fake])).chunk(2, dim=0)
    loss = 0.1 * (r ** 2 + f ** 2).mean() + f.mean() - r.mean()
    opt.zero_grad(); loss.backward()
    nn.utils.clip_grad_value_(ebm.parameters(), 0.1)
    opt.step()
print('ebm', loss.item())

# MDN
mdn = same_start(nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 9)))
opt = torch.optim.Adam(mdn.parameters(), lr=1e-2)
x, y = moons[:, 1:], moons[:, 0]
for _ in range(10):
    pi, mu, sigma = torch.split(mdn(x), 3, dim=-1)
    mix = MixtureSameFamily(Categorical(logits=pi), Normal(mu, F.softplus(sigma) + 1e-3))
    loss = -mix.log_prob(y).mean()
    opt.zero_grad(set_to_none=False); loss.backward(); opt.step()
print('mdn', loss.item(), mix.mean[:2], mix.sample().shape)


# Bayes by backprop
class BayesianLinear(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.mu = nn.Parameter(torch.Tensor(o, i).uniform_(-0.2, 0.2))
        self.rho = nn.Parameter(torch.Tensor(o, i).uniform_(-5, -4))
        self.prior = Normal(0, 1)

    def forward(self, x):
        sigma = torch.log1p(torch.exp(self.rho))
        w = self.mu + sigma * noise(rng, *self.mu.shape)
        self.log_prior = self.prior.log_prob(w).sum()
        self.log_q = Normal(self.mu, sigma).log_prob(w).sum()
        return F.linear(x, w)


bnn = nn.Sequential(BayesianLinear(2, 8), nn.ReLU(), BayesianLinear(8, 1))
same_start(bnn)
opt = torch.optim.Adagrad(bnn.parameters(), lr=0.05)
for _ in range(8):
    bnn.zero_grad()
    out = bnn(moons).squeeze(-1)
    kl = sum(m.log_q - m.log_prior for m in bnn.modules() if isinstance(m, BayesianLinear))
    loss = kl / 64 + F.mse_loss(out, moons.sum(1), reduction='sum') / 2
    loss.backward(); opt.step()
print('bnn', loss.item())
