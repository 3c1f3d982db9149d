"""Actor and critic with shared trunk, clipped surrogate objective (PPO), generalised advantages, several heads."""

import numpy as np
import torch
import torch.nn as nn
from start import noise, same_start
from torch.distributions.categorical import Categorical


def layer_init(layer, std=np.sqrt(2), bias_const=0.0):
    torch.nn.init.orthogonal_(layer.weight, std)
    torch.nn.init.constant_(layer.bias, bias_const)
    return layer


class Agent(nn.Module):
    def __init__(self):
        super().__init__()
        self.critic = nn.Sequential(layer_init(nn.Linear(4, 16)), nn.Tanh(), layer_init(nn.Linear(16, 1), std=1.0))
        self.actor = nn.Sequential(layer_init(nn.Linear(4, 16)), nn.Tanh(), layer_init(nn.Linear(16, 3), std=0.01))

    def get_value(self, x):
        return self.critic(x)

    def get_action_and_value(self, x, action=None):
        logits = self.actor(x)
        probs = Categorical(logits=logits)
        if action is None:
            action = probs.sample()
        return action, probs.log_prob(action), probs.entropy(), self.critic(x)


rng = np.random.default_rng(0)
agent = same_start(Agent())
optimizer = torch.optim.Adam(agent.parameters(), lr=1e-2, eps=1e-5)
num_steps, num_envs, gamma, lam, clip = 16, 4, 0.99, 0.95, 0.2
obs = torch.zeros((num_steps, num_envs, 4))
actions, logprobs, rewards, dones, values = (torch.zeros((num_steps, num_envs)) for _ in range(5))
rewards_seen = []
for update in range(12):
    for step in range(num_steps):
        obs[step] = noise(rng, num_envs, 4)
        dones[step] = torch.Tensor((rng.random(num_envs) < 0.1).astype(np.float32))
        with torch.no_grad():
            _, _, _, value = agent.get_action_and_value(obs[step])
            probs = agent.actor(obs[step]).softmax(-1)
            action = (probs.cumsum(-1) < torch.from_numpy(rng.random((num_envs, 1))).float()).sum(-1).clamp(max=2)
            logprob = Categorical(probs=probs).log_prob(action)
            values[step] = value.flatten()
        actions[step], logprobs[step] = action, logprob
        rewards[step] = torch.tensor((obs[step, :, :3].argmax(-1) == action).numpy()).to(torch.float32).view(-1)
    rewards_seen.append(rewards.mean().item())
    with torch.no_grad():
        next_value = agent.get_value(obs[-1]).reshape(1, -1)
        advantages = torch.zeros_like(rewards)
        lastgaelam = 0
        for t in reversed(range(num_steps)):
            nextnonterminal = 1.0 - dones[t]
            nextvalues = next_value if t == num_steps - 1 else values[t + 1]
            delta = rewards[t] + gamma * nextvalues * nextnonterminal - values[t]
            advantages[t] = lastgaelam = delta + gamma * lam * nextnonterminal * lastgaelam
        returns = advantages + values
    b_obs = obs.reshape((-1, 4))
    b_logprobs, b_actions = logprobs.reshape(-1), actions.reshape(-1)
    b_advantages, b_returns, b_values = advantages.reshape(-1), returns.reshape(-1), values.reshape(-1)
    b_inds = np.arange(num_steps * num_envs)
    for epoch in range(2):
        rng.shuffle(b_inds)
        for start in range(0, 64, 32):
            mb_inds = b_inds[start : start + 32]
            _, newlogprob, entropy, newvalue = agent.get_action_and_value(b_obs[mb_inds], b_actions.long()[mb_inds])
            logratio = newlogprob - b_logprobs[mb_inds]
            ratio = logratio.exp()
            with torch.no_grad():
                approx_kl = ((ratio - 1) - logratio).mean()
                clipfrac = ((ratio - 1.0).abs() > clip).float().mean().item()
            mb_adv = b_advantages[mb_inds]
            mb_adv = (mb_adv - mb_adv.mean()) / (mb_adv.std() + 1e-8)
            pg_loss = torch.max(-mb_adv * ratio, -mb_adv * torch.clamp(ratio, 1 - clip, 1 + clip)).mean()
            newvalue = newvalue.view(-1)
            v_clipped = b_values[mb_inds] + torch.clamp(newvalue - b_values[mb_inds], -clip, clip)
            v_loss = 0.5 * torch.max((newvalue - b_returns[mb_inds]) ** 2, (v_clipped - b_returns[mb_inds]) ** 2).mean()
            loss = pg_loss - 0.01 * entropy.mean() + v_loss * 0.5
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
            optimizer.step()
    print(update, loss.item(), approx_kl.item(), clipfrac)
print(rewards_seen[0], rewards_seen[-1])
assert sum(rewards_seen[-3:]) > sum(rewards_seen[:3])
