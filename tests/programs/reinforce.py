"""Policy gradient on a corridor: Categorical policy, returns that are normalised, Normal policy for a continuous action."""

from collections import deque

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from start import same_start
from torch.distributions import Categorical, Normal

torch.manual_seed(0)
eps = np.finfo(np.float32).eps.item()


class Corridor:
    """Walk from 0 to 4; every step costs a little."""

    def reset(self):
        self.at, self.t = 0, 0
        return self.state()

    def state(self):
        return np.eye(5, dtype=np.float32)[self.at]

    def step(self, action):
        self.t += 1
        self.at = max(0, self.at + (1 if action == 1 else -1))
        done = self.at == 4 or self.t == 20
        return self.state(), 1.0 if self.at == 4 else -0.1, done


class Policy(nn.Module):
    def __init__(self):
        super(Policy, self).__init__()
        self.affine1 = nn.Linear(5, 16)
        self.dropout = nn.Dropout(p=0.0)
        self.affine2 = nn.Linear(16, 2)
        self.saved_log_probs, self.rewards = [], []

    def forward(self, x):
        return F.softmax(self.affine2(F.relu(self.dropout(self.affine1(x)))), dim=1)


policy = same_start(Policy())
optimizer = optim.Adam(policy.parameters(), lr=2e-2)
env = Corridor()


def select_action(state):
    state = torch.from_numpy(state).float().unsqueeze(0)
    m = Categorical(policy(state))
    action = m.sample()
    policy.saved_log_probs.append(m.log_prob(action))
    return action.item()


def finish_episode():
    R, policy_loss, returns = 0, [], deque()
    for r in policy.rewards[::-1]:
        R = r + 0.95 * R
        returns.appendleft(R)
    returns = torch.tensor(returns)
    returns = (returns - returns.mean()) / (returns.std() + eps)
    for log_prob, R in zip(policy.saved_log_probs, returns):
        policy_loss.append(-log_prob * R)
    optimizer.zero_grad()
    policy_loss = torch.cat(policy_loss).sum()
    policy_loss.backward()
    optimizer.step()
    del policy.rewards[:]
    del policy.saved_log_probs[:]


lengths = []
for episode in range(60):
    state = env.reset()
    for t in range(1, 100):
        action = select_action(state)
        state, reward, done = env.step(action)
        policy.rewards.append(reward)
        if done:
            break
    lengths.append(t)
    finish_episode()
# The actions are drawn from torch's own stream: only what they lead to is asserted.
assert sum(lengths[-10:]) < sum(lengths[:10]), lengths

mean = torch.zeros(1, requires_grad=True)
log_std = torch.full((1,), -1.0, requires_grad=True)
optimizer = optim.SGD([mean, log_std], lr=0.02)
rng = np.random.default_rng(0)
for step in range(80):
    dist = Normal(mean, log_std.exp())
    action = (mean + log_std.exp() * torch.from_numpy(rng.standard_normal(64).astype(np.float32))).detach()
    reward = -((action - 1.5) ** 2)
    advantage = reward - reward.mean()
    loss = -(dist.log_prob(action) * advantage).mean() - 0.01 * dist.entropy().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(mean.item(), log_std.item(), loss.item())
assert abs(mean.item() - 1.5) < 0.5
