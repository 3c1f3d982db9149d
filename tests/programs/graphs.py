"""GCN, GAT, GIN, message passing, recsys, contrastive, metric learning"""
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.parameter import Parameter
from torch.nn.modules.module import Module
from torch.utils.data import Dataset, DataLoader, TensorDataset, Sampler
import math
from start import same_start, noise

rng = np.random.default_rng(0)
N = 20
src = torch.from_numpy(rng.integers(0, N, 60)); dst = torch.from_numpy(rng.integers(0, N, 60))
edge_index = torch.stack([torch.cat([src, dst]), torch.cat([dst, src])])
X, Y = noise(rng, N, 6), torch.from_numpy(rng.integers(0, 3, N))


class GraphConvolution(Module):
    def __init__(self, in_features, out_features, bias=True):
        super(GraphConvolution, self).__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight = Parameter(torch.FloatTensor(in_features, out_features))
        if bias:
            self.bias = Parameter(torch.FloatTensor(out_features))
        else:
            self.register_parameter('bias', None)
        self.reset_parameters()

    def reset_parameters(self):
        stdv = 1. / math.sqrt(self.weight.size(1))
        self.weight.data.uniform_(-stdv, stdv)
        if self.bias is not None:
            self.bias.data.uniform_(-stdv, stdv)

    def forward(self, input, adj):
        support = torch.mm(input, self.weight)
        output = torch.matmul(adj, support)
        if self.bias is not None:
            return output + self.bias
        return output

    def __repr__(self):
        return self.__class__.__name__ + ' (' + str(self.in_features) + ' -> ' + str(self.out_features) + ')'


class GAT(nn.Module):
    def __init__(self, i, o, alpha=0.2, concat=True):
        super().__init__()
        self.W = nn.Parameter(torch.empty(size=(i, o)))
        nn.init.xavier_uniform_(self.W.data, gain=1.414)
        self.a = nn.Parameter(torch.empty(size=(2*o, 1)))
        nn.init.xavier_uniform_(self.a.data, gain=1.414)
        self.leakyrelu = nn.LeakyReLU(alpha)
        self.o, self.concat = o, concat

    def forward(self, h, adj):
        Wh = torch.mm(h, self.W)
        e = self.leakyrelu(torch.matmul(Wh, self.a[:self.o, :]) + torch.matmul(Wh, self.a[self.o:, :]).T)
        zero_vec = -9e15*torch.ones_like(e)
        attention = torch.where(adj > 0, e, zero_vec)
        attention = F.softmax(attention, dim=1)
        h_prime = torch.matmul(attention, Wh)
        return F.elu(h_prime) if self.concat else h_prime


class MessagePassing(nn.Module):
    def __init__(self, i, o, aggr):
        super().__init__()
        self.lin, self.root, self.aggr = nn.Linear(2 * i, o), nn.Linear(i, o), aggr

    def forward(self, x, edge_index):
        row, col = edge_index
        m = F.relu(self.lin(torch.cat([x[row], x[col] - x[row]], dim=-1)))
        if self.aggr == 'add':
            out = torch.zeros(x.size(0), m.size(1), dtype=m.dtype).index_add_(0, col, m)
        elif self.aggr == 'mean':
            out = x.new_zeros(x.size(0), m.size(1)).scatter_add_(0, col.view(-1, 1).expand_as(m), m)
            deg = torch.bincount(col, minlength=x.size(0)).clamp(min=1)
            out = out / deg.unsqueeze(-1)
        else:
            out = x.new_full((x.size(0), m.size(1)), 0.0).scatter_reduce(0, col[:, None].expand(-1, m.size(1)), m, reduce=self.aggr, include_self=True)
        return out + self.root(x)


adj = torch.zeros(N, N)
adj[edge_index[0], edge_index[1]] = 1.
adj = adj + adj.t().multiply(adj.t() > adj) - adj.multiply(adj.t() > adj)
adj.fill_diagonal_(1)
deg = adj.sum(1)
d_inv_sqrt = torch.pow(deg, -0.5).flatten()
d_inv_sqrt[torch.isinf(d_inv_sqrt)] = 0.
norm_adj = torch.diag(d_inv_sqrt).mm(adj).mm(torch.diag_embed(d_inv_sqrt))
idx_train, idx_val = torch.LongTensor(range(12)), torch.LongTensor(range(12, N))


class GCN(nn.Module):
    def __init__(self, conv):
        super().__init__()
        self.c1, self.c2 = conv(6, 8), conv(8, 3)

    def forward(self, x, a):
        x = F.relu(self.c1(x, a))
        x = F.dropout(x, 0.0, training=self.training)
        return F.log_softmax(self.c2(x, a), dim=1)


def accuracy(output, labels):
    preds = output.max(1)[1].type_as(labels)
    correct = preds.eq(labels).double()
    correct = correct.sum()
    return correct / len(labels)


for name, conv, a in [('gcn', GraphConvolution, norm_adj), ('gat', GAT, adj)] + [(r, lambda i, o, r=r: MessagePassing(i, o, r), edge_index) for r in ('add', 'mean', 'amax', 'sum')]:
    model = same_start(GCN(conv))
    opt = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
    for epoch in range(15):
        model.train()
        opt.zero_grad()
        output = model(X, a)
        loss = F.nll_loss(output[idx_train], Y[idx_train])
        acc = accuracy(output[idx_train], Y[idx_train])
        loss.backward()
        opt.step()
    model.eval()
    print(name, 'loss: {:.4f}'.format(loss.item()), 'acc: {:.4f}'.format(acc.item()), 'val: {:.4f}'.format(F.nll_loss(model(X, a)[idx_val], Y[idx_val]).item()))
print(model)

# contrastive losses


def nt_xent(z_i, z_j, temperature=0.5):
    n = z_i.size(0)
    z = F.normalize(torch.cat([z_i, z_j], dim=0), dim=1)
    sim = F.cosine_similarity(z.unsqueeze(1), z.unsqueeze(0), dim=2) / temperature
    sim_i_j, sim_j_i = torch.diag(sim, n), torch.diag(sim, -n)
    positive = torch.cat((sim_i_j, sim_j_i), dim=0).reshape(2 * n, 1)
    mask = torch.ones((2 * n, 2 * n), dtype=bool)
    mask = mask.fill_diagonal_(0)
    for i in range(n):
        mask[i, n + i] = 0
        mask[n + i, i] = 0
    negative = sim[mask].reshape(2 * n, -1)
    labels = torch.from_numpy(np.array([0] * 2 * n)).reshape(-1).to(positive.device).long()
    logits = torch.cat((positive, negative), dim=1)
    return nn.CrossEntropyLoss(reduction="sum")(logits, labels) / (2 * n)


def info_nce(features, batch_size, n_views=2, temperature=0.07):
    labels = torch.cat([torch.arange(batch_size) for i in range(n_views)], dim=0)
    labels = (labels.unsqueeze(0) == labels.unsqueeze(1)).float()
    features = F.normalize(features, dim=1)
    similarity_matrix = torch.matmul(features, features.T)
    mask = torch.eye(labels.shape[0], dtype=torch.bool)
    labels = labels[~mask].view(labels.shape[0], -1)
    similarity_matrix = similarity_matrix[~mask].view(similarity_matrix.shape[0], -1)
    positives = similarity_matrix[labels.bool()].view(labels.shape[0], -1)
    negatives = similarity_matrix[~labels.bool()].view(similarity_matrix.shape[0], -1)
    logits = torch.cat([positives, negatives], dim=1)
    return F.cross_entropy(logits / temperature, torch.zeros(logits.shape[0], dtype=torch.long))


class CLIP(nn.Module):
    def __init__(self):
        super().__init__()
        self.im, self.tx = nn.Linear(6, 8), nn.Linear(4, 8)
        self.logit_scale = nn.Parameter(torch.ones([]) * np.log(1 / 0.07))

    def forward(self, a, b):
        i, t = self.im(a), self.tx(b)
        i = i / i.norm(dim=1, keepdim=True)
        t = t / t.norm(dim=-1, keepdim=True)
        logit_scale = self.logit_scale.exp()
        logits_per_image = logit_scale * i @ t.t()
        return logits_per_image, logits_per_image.t()


enc = same_start(nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 8)))
a, b = X + 0.1 * noise(rng, N, 6), X + 0.1 * noise(rng, N, 6)
opt = torch.optim.SGD(enc.parameters(), lr=0.5, momentum=0.9)
for _ in range(6):
    loss = nt_xent(enc(a), enc(b)) + info_nce(enc(torch.cat([a, b])), N)
    opt.zero_grad(); loss.backward(); opt.step()
print('ntxent', loss.item())
clip = CLIP()
ls = clip.logit_scale.data.clone()
same_start(clip.im); same_start(clip.tx)
clip.logit_scale.data = ls
opt = torch.optim.AdamW(clip.parameters(), lr=0.01)
txt = X[:, :4].sin()
for _ in range(8):
    li, lt = clip(X, txt)
    labels = torch.arange(len(X))
    loss = (F.cross_entropy(li, labels) + F.cross_entropy(lt, labels)) / 2
    opt.zero_grad(); loss.backward(); opt.step()
    with torch.no_grad():
        clip.logit_scale.clamp_(0, math.log(100))
print('clip', loss.item(), clip.logit_scale.item())


# triplets, centers, arcface, focal
class ArcMarginProduct(nn.Module):
    def __init__(self, i, o, s=30.0, m=0.50):
        super().__init__()
        self.s, self.m = s, m
        self.weight = Parameter(torch.FloatTensor(o, i))
        nn.init.xavier_uniform_(self.weight)
        self.cos_m, self.sin_m, self.th, self.mm = math.cos(m), math.sin(m), math.cos(math.pi - m), math.sin(math.pi - m) * m

    def forward(self, input, label):
        cosine = F.linear(F.normalize(input), F.normalize(self.weight))
        sine = torch.sqrt((1.0 - torch.pow(cosine, 2)).clamp(0, 1))
        phi = cosine * self.cos_m - sine * self.sin_m
        phi = torch.where(cosine > self.th, phi, cosine - self.mm)
        one_hot = torch.zeros(cosine.size(), device=input.device)
        one_hot.scatter_(1, label.view(-1, 1).long(), 1)
        return (one_hot * phi + (1.0 - one_hot) * cosine) * self.s


class FocalLoss(nn.Module):
    def __init__(self, gamma=2, alpha=None, size_average=True):
        super().__init__()
        self.gamma, self.alpha = gamma, torch.Tensor(alpha) if isinstance(alpha, list) else alpha
        self.size_average = size_average

    def forward(self, input, target):
        target = target.view(-1, 1)
        logpt = F.log_softmax(input, dim=-1)
        logpt = logpt.gather(1, target).view(-1)
        pt = logpt.data.exp()
        if self.alpha is not None:
            at = self.alpha.gather(0, target.data.view(-1))
            logpt = logpt * at
        loss = -1 * (1-pt)**self.gamma * logpt
        return loss.mean() if self.size_average else loss.sum()


arc = same_start(ArcMarginProduct(6, 3))
out = arc(X, Y)
loss = FocalLoss(2, [0.2, 0.3, 0.5])(out, Y) + nn.TripletMarginLoss(margin=1.0, p=2)(X[:5], X[5:10], X[10:15]) + nn.MarginRankingLoss(0.5)(out[:, 0], out[:, 1], torch.sign(out[:, 2]).detach()) \
    + nn.CosineEmbeddingLoss()(X[:5], X[5:10], torch.tensor([1., -1, 1, -1, 1])) + F.pairwise_distance(X[:3], X[3:6]).mean() + F.multi_margin_loss(out, Y) + F.hinge_embedding_loss(out, torch.ones_like(out))
loss.backward()
print('arc', loss.item(), arc.weight.grad.norm().item())


# recommender: NCF, DeepFM, EmbeddingBag
class FM(nn.Module):
    def __init__(self, fields, k):
        super().__init__()
        self.offsets = np.array((0, *np.cumsum(fields)[:-1]), dtype=np.int64)
        self.embedding = nn.Embedding(sum(fields), k)
        self.fc = nn.Embedding(sum(fields), 1)
        self.bias = nn.Parameter(torch.zeros((1,)))
        self.mlp = nn.Sequential(nn.Linear(k * len(fields), 8), nn.ReLU(), nn.Linear(8, 1))
        self.bag = nn.EmbeddingBag(10, 4, mode='mean')

    def forward(self, x, items, offsets):
        x = x + x.new_tensor(self.offsets).unsqueeze(0)
        e = self.embedding(x)
        square_of_sum = torch.sum(e, dim=1) ** 2
        sum_of_square = torch.sum(e ** 2, dim=1)
        ix = 0.5 * (square_of_sum - sum_of_square).sum(1, keepdim=True)
        y = torch.sum(self.fc(x), dim=1) + self.bias + ix + self.mlp(e.view(e.size(0), -1))
        return torch.sigmoid(y.squeeze(1) + self.bag(items, offsets).sum(1))


fm = same_start(FM([5, 7, 3], 4))
xs = torch.from_numpy(np.stack([rng.integers(0, n, 16) for n in (5, 7, 3)], 1))
items, offs = torch.from_numpy(rng.integers(0, 10, 40)), torch.arange(0, 32, 2)
yy = torch.from_numpy(rng.integers(0, 2, 16)).float()
opt = torch.optim.Adagrad(fm.parameters(), lr=0.1)
for _ in range(10):
    p = fm(xs, items, offs)
    loss = nn.BCELoss()(p, yy)
    fm.zero_grad(); loss.backward(); opt.step()
print('fm', loss.item())


class BalancedSampler(Sampler):
    def __init__(self, labels, n_classes=2, n_samples=3):
        self.labels = labels
        self.groups = {l: np.where(labels.numpy() == l)[0] for l in set(labels.tolist())}
        self.n_samples = n_samples

    def __iter__(self):
        for i in range(len(self)):
            batch = []
            for l, idx in self.groups.items():
                batch.extend(idx[(i + np.arange(self.n_samples)) % len(idx)].tolist())
            yield batch

    def __len__(self):
        return 2


for xb, yb in DataLoader(TensorDataset(X, Y), batch_sampler=BalancedSampler(Y)):
    print(xb.shape, yb.tolist())
# top-k metrics, confusion matrices, AUC by sorting
conf = torch.zeros(3, 3, dtype=torch.int64)
pred = out.argmax(1)
for t, p in zip(Y.view(-1), pred.view(-1)):
    conf[t.long(), p.long()] += 1
print(conf, torch.bincount(Y * 3 + pred, minlength=9).reshape(3, 3).equal(conf), conf.diag() / conf.sum(1))
scores, order = p.float().new_tensor(np.asarray([0.1, 0.8, 0.3, 0.9])).sort(descending=True)
print(scores, order, torch.cumsum(torch.tensor([0, 1, 0, 1])[order], 0), torch.unique(Y, return_counts=True), torch.histc(X, bins=4, min=-2, max=2), torch.quantile(X, torch.tensor([0.1, 0.9])))
