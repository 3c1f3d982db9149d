"""Deep Q-learning: replay memory, target network with soft updates, gather, SmoothL1."""

import random
from collections import deque, namedtuple

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from start import same_start

Transition = namedtuple("Transition", ("state", "action", "next_state", "reward"))
rng = np.random.RandomState(0)
random.seed(0)
device = torch.device("cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu")


class ReplayMemory:
    def __init__(self, capacity):
        self.memory = deque([], maxlen=capacity)

    def push(self, *args):
        self.memory.append(Transition(*args))

    def sample(self, batch_size):
        return random.sample(self.memory, batch_size)

    def __len__(self):
        return len(self.memory)


class DQN(nn.Module):
    def __init__(self, n_observations, n_actions):
        super().__init__()
        self.layer1, self.layer2 = nn.Linear(n_observations, 24), nn.Linear(24, 24)
        self.layer3 = nn.Linear(24, n_actions)

    def forward(self, x):
        return self.layer3(F.relu(self.layer2(F.relu(self.layer1(x)))))


policy_net, target_net = same_start(DQN(2, 2).to(device)), DQN(2, 2).to(device)
target_net.load_state_dict(policy_net.state_dict())
optimizer = torch.optim.AdamW(policy_net.parameters(), lr=1e-2, amsgrad=True)
memory = ReplayMemory(500)


def optimize_model(batch_size=32, gamma=0.9):
    if len(memory) < batch_size:
        return None
    batch = Transition(*zip(*memory.sample(batch_size)))
    non_final_mask = torch.tensor(tuple(map(lambda s: s is not None, batch.next_state)), device=device, dtype=torch.bool)
    non_final_next_states = torch.cat([s for s in batch.next_state if s is not None])
    state_batch, action_batch, reward_batch = torch.cat(batch.state), torch.cat(batch.action), torch.cat(batch.reward)
    state_action_values = policy_net(state_batch).gather(1, action_batch)
    next_state_values = torch.zeros(batch_size, device=device)
    with torch.no_grad():
        next_state_values[non_final_mask] = target_net(non_final_next_states).max(1).values
    expected = (next_state_values * gamma) + reward_batch
    loss = nn.SmoothL1Loss()(state_action_values, expected.unsqueeze(1))
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_value_(policy_net.parameters(), 100)
    optimizer.step()
    return loss.item()


losses = []
for episode in range(25):
    position, goal = rng.randint(0, 5), 4
    state = torch.tensor([position / 4, 1.0], dtype=torch.float32, device=device).unsqueeze(0)
    for t in range(8):
        if random.random() > 0.3:
            with torch.no_grad():
                action = policy_net(state).max(1).indices.view(1, 1)
        else:
            action = torch.tensor([[rng.randint(2)]], device=device, dtype=torch.long)
        position = max(0, position + (1 if action.item() else -1))
        reward = torch.tensor([1.0 if position >= goal else -0.1], device=device)
        terminated = position >= goal
        next_state = None if terminated else torch.tensor([[position / 4, 1.0]])
        memory.push(state, action, next_state, reward)
        state = next_state
        losses.append(optimize_model())
        tsd, psd = target_net.state_dict(), policy_net.state_dict()
        for key in psd:
            tsd[key] = psd[key] * 0.05 + tsd[key] * 0.95
        target_net.load_state_dict(tsd)
        if terminated:
            break
losses = [x for x in losses if x is not None]
q = policy_net(torch.tensor([[i / 4, 1.0] for i in range(4)])).detach()
print(len(losses), losses[0], losses[-1])
print(q.tolist())
assert (q[:, 1] > q[:, 0]).all()
