"""PPO, SAC, DDPG on a toy continuous environment"""
import copy, math, random
from collections import deque, namedtuple
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch.distributions import Normal, Categorical, MultivariateNormal, Independent
from torch.distributions.kl import kl_divergence
from torch.autograd import Variable
from start import same_start, noise

device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
rng = np.random.default_rng(0)


class Env:
    def reset(self):
        self.x = np.array([1.0, -0.5, 0.2]); self.t = 0
        return self.x.astype(np.float32)

    def step(self, a):
        self.x = self.x * 0.9 + 0.1 * np.array([a[0], a[-1], self.x[0]]); self.t += 1
        return self.x.astype(np.float32), float(-np.square(self.x).sum()), self.t >= 20, {}


def layer_init(layer, std=np.sqrt(2), bias_const=0.0):
    torch.nn.init.orthogonal_(layer.weight, std)
    torch.nn.init.constant_(layer.bias, bias_const)
    return layer


class Agent(nn.Module):
    def __init__(self):
        super().__init__()
        self.critic = nn.Sequential(layer_init(nn.Linear(3, 16)), nn.Tanh(), layer_init(nn.Linear(16, 1), std=1.0))
        self.actor_mean = nn.Sequential(layer_init(nn.Linear(3, 16)), nn.Tanh(), layer_init(nn.Linear(16, 2), std=0.01))
        self.actor_logstd = nn.Parameter(torch.zeros(1, 2))

    def get_value(self, x):
        return self.critic(x)

    def get_action_and_value(self, x, action=None, eps=None):
        action_mean = self.actor_mean(x)
        action_logstd = self.actor_logstd.expand_as(action_mean)
        action_std = torch.exp(action_logstd)
        probs = Normal(action_mean, action_std)
        if action is None:
            action = (action_mean + action_std * eps).detach()
        return action, probs.log_prob(action).sum(1), probs.entropy().sum(1), self.critic(x)


env = Env()
agent = same_start(Agent()).to(device)
optimizer = optim.Adam(agent.parameters(), lr=3e-3, eps=1e-5)
num_steps, gamma, gae_lambda, clip_coef, ent_coef, vf_coef = 40, 0.99, 0.95, 0.2, 0.01, 0.5
for iteration in range(1, 4):
    frac = 1.0 - (iteration - 1.0) / 3
    optimizer.param_groups[0]["lr"] = frac * 3e-3
    obs = torch.zeros((num_steps, 1, 3)).to(device)
    actions = torch.zeros((num_steps, 1, 2)).to(device)
    logprobs, rewards, dones, values = (torch.zeros((num_steps, 1)).to(device) for _ in range(4))
    next_obs, next_done = torch.Tensor(env.reset()).unsqueeze(0), torch.zeros(1)
    for step in range(num_steps):
        obs[step], dones[step] = next_obs, next_done
        with torch.no_grad():
            action, logprob, _, value = agent.get_action_and_value(next_obs, eps=noise(rng, 1, 2))
            values[step] = value.flatten()
        actions[step], logprobs[step] = action, logprob
        o, r, d, _ = env.step(action.cpu().numpy()[0])
        if d:
            o = env.reset()
        rewards[step] = torch.tensor([r]).to(device).view(-1)
        next_obs, next_done = torch.Tensor(o[None]).to(device), torch.Tensor([d]).to(device)
    with torch.no_grad():
        next_value = agent.get_value(next_obs).reshape(1, -1)
        advantages = torch.zeros_like(rewards).to(device)
        lastgaelam = 0
        for t in reversed(range(num_steps)):
            if t == num_steps - 1:
                nextnonterminal, nextvalues = 1.0 - next_done, next_value
            else:
                nextnonterminal, nextvalues = 1.0 - dones[t + 1], values[t + 1]
            delta = rewards[t] + gamma * nextvalues * nextnonterminal - values[t]
            advantages[t] = lastgaelam = delta + gamma * gae_lambda * nextnonterminal * lastgaelam
        returns = advantages + values
    b_obs, b_logprobs, b_actions = obs.reshape((-1,) + (3,)), logprobs.reshape(-1), actions.reshape((-1, 2))
    b_advantages, b_returns, b_values = advantages.reshape(-1), returns.reshape(-1), values.reshape(-1)
    b_inds = np.arange(num_steps)
    clipfracs = []
    for epoch in range(3):
        rng.shuffle(b_inds)
        for start in range(0, num_steps, 20):
            mb_inds = b_inds[start:start + 20]
            _, newlogprob, entropy, newvalue = agent.get_action_and_value(b_obs[mb_inds], b_actions[mb_inds])
            logratio = newlogprob - b_logprobs[mb_inds]
            ratio = logratio.exp()
            with torch.no_grad():
                old_approx_kl = (-logratio).mean()
                approx_kl = ((ratio - 1) - logratio).mean()
                clipfracs += [((ratio - 1.0).abs() > clip_coef).float().mean().item()]
            mb_advantages = b_advantages[mb_inds]
            mb_advantages = (mb_advantages - mb_advantages.mean()) / (mb_advantages.std() + 1e-8)
            pg_loss = torch.max(-mb_advantages * ratio, -mb_advantages * torch.clamp(ratio, 1 - clip_coef, 1 + clip_coef)).mean()
            newvalue = newvalue.view(-1)
            v_loss_unclipped = (newvalue - b_returns[mb_inds]) ** 2
            v_clipped = b_values[mb_inds] + torch.clamp(newvalue - b_values[mb_inds], -clip_coef, clip_coef)
            v_loss = 0.5 * torch.max(v_loss_unclipped, (v_clipped - b_returns[mb_inds]) ** 2).mean()
            loss = pg_loss - ent_coef * entropy.mean() + v_loss * vf_coef
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
            optimizer.step()
    y_pred, y_true = b_values.cpu().numpy(), b_returns.cpu().numpy()
    var_y = np.var(y_true)
    print(iteration, loss.item(), approx_kl.item(), v_loss.item(), 1 - np.var(y_true - y_pred) / var_y)

Transition = namedtuple('Transition', ('state', 'action', 'next_state', 'reward', 'done'))


class ReplayMemory(object):
    def __init__(self, capacity):
        self.memory = deque([], maxlen=capacity)

    def push(self, *args):
        self.memory.append(Transition(*args))

    def sample(self, batch_size):
        return random.sample(self.memory, batch_size)

    def __len__(self):
        return len(self.memory)


LOG_SIG_MAX, LOG_SIG_MIN, epsilon = 2, -20, 1e-6


class GaussianPolicy(nn.Module):
    def __init__(self):
        super(GaussianPolicy, self).__init__()
        self.linear1 = nn.Linear(3, 16)
        self.mean_linear = nn.Linear(16, 2)
        self.log_std_linear = nn.Linear(16, 2)
        self.action_scale = torch.tensor(1.)
        self.action_bias = torch.tensor(0.)

    def forward(self, state):
        x = F.relu(self.linear1(state))
        mean = self.mean_linear(x)
        log_std = torch.clamp(self.log_std_linear(x), min=LOG_SIG_MIN, max=LOG_SIG_MAX)
        return mean, log_std

    def sample(self, state, eps):
        mean, log_std = self.forward(state)
        std = log_std.exp()
        normal = Normal(mean, std)
        x_t = mean + std * eps  # rsample
        y_t = torch.tanh(x_t)
        action = y_t * self.action_scale + self.action_bias
        log_prob = normal.log_prob(x_t)
        log_prob -= torch.log(self.action_scale * (1 - y_t.pow(2)) + epsilon)
        log_prob = log_prob.sum(1, keepdim=True)
        return action, log_prob, torch.tanh(mean)

    def to(self, device):
        self.action_scale = self.action_scale.to(device)
        self.action_bias = self.action_bias.to(device)
        return super(GaussianPolicy, self).to(device)


class QNetwork(nn.Module):
    def __init__(self):
        super().__init__()
        self.q1 = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 1))
        self.q2 = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, state, action):
        xu = torch.cat([state, action], 1)
        return self.q1(xu), self.q2(xu)


def soft_update(target, source, tau):
    for target_param, param in zip(target.parameters(), source.parameters()):
        target_param.data.copy_(target_param.data * (1.0 - tau) + param.data * tau)


random.seed(0)
policy, critic = same_start(GaussianPolicy()).to(device), same_start(QNetwork(), 1).to(device)
critic_target = copy.deepcopy(critic)
for p in critic_target.parameters():
    p.requires_grad = False
policy_optim, critic_optim = optim.Adam(policy.parameters(), lr=3e-3), optim.Adam(critic.parameters(), lr=3e-3)
target_entropy = -torch.prod(torch.Tensor((2,)).to(device)).item()
log_alpha = torch.zeros(1, requires_grad=True, device=device)
alpha_optim = optim.Adam([log_alpha], lr=3e-3)
alpha = log_alpha.exp().item()
memory = ReplayMemory(1000)
state = env.reset()
for t in range(60):
    with torch.no_grad():
        a, _, _ = policy.sample(torch.FloatTensor(state).unsqueeze(0), noise(rng, 1, 2))
    a = a.detach().cpu().numpy()[0]
    nxt, r, done, _ = env.step(a)
    memory.push(state, a, nxt, r, done)
    state = env.reset() if done else nxt
    if len(memory) < 16:
        continue
    batch = Transition(*zip(*memory.sample(16)))
    state_batch = torch.FloatTensor(np.array(batch.state)).to(device)
    next_state_batch = torch.FloatTensor(np.array(batch.next_state)).to(device)
    action_batch = torch.FloatTensor(np.array(batch.action)).to(device)
    reward_batch = torch.FloatTensor(batch.reward).to(device).unsqueeze(1)
    mask_batch = torch.FloatTensor([not d for d in batch.done]).to(device).unsqueeze(1)
    with torch.no_grad():
        next_action, next_log_pi, _ = policy.sample(next_state_batch, noise(rng, 16, 2))
        q1t, q2t = critic_target(next_state_batch, next_action)
        min_qf_next_target = torch.min(q1t, q2t) - alpha * next_log_pi
        next_q_value = reward_batch + mask_batch * 0.99 * (min_qf_next_target)
    qf1, qf2 = critic(state_batch, action_batch)
    qf_loss = F.mse_loss(qf1, next_q_value) + F.mse_loss(qf2, next_q_value)
    critic_optim.zero_grad(); qf_loss.backward(); critic_optim.step()
    pi, log_pi, _ = policy.sample(state_batch, noise(rng, 16, 2))
    min_qf_pi = torch.min(*critic(state_batch, pi))
    policy_loss = ((alpha * log_pi) - min_qf_pi).mean()
    policy_optim.zero_grad(); policy_loss.backward(); policy_optim.step()
    alpha_loss = -(log_alpha * (log_pi + target_entropy).detach()).mean()
    alpha_optim.zero_grad(); alpha_loss.backward(); alpha_optim.step()
    alpha = log_alpha.exp().item()
    soft_update(critic_target, critic, 0.005)
print(qf_loss.item(), policy_loss.item(), alpha, log_alpha)
# natural gradient: conjugate gradient and Fisher vector products (TRPO)


def flat_grad(y, x, retain_graph=False, create_graph=False):
    if create_graph:
        retain_graph = True
    g = torch.autograd.grad(y, x, retain_graph=retain_graph, create_graph=create_graph)
    return torch.cat([t.reshape(-1) for t in g])


actor = same_start(nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 4)), 3)
states = noise(rng, 30, 3)
acts = torch.from_numpy(rng.integers(0, 4, 30))
adv = noise(rng, 30)
logits = actor(states)
dist = Categorical(logits=logits)
old = dist.log_prob(acts).detach()
params = list(actor.parameters())
L = (torch.exp(dist.log_prob(acts) - old) * adv).mean()
KL = kl_divergence(Categorical(logits=logits.detach()), dist).mean()
g = flat_grad(L, params, retain_graph=True)
d_kl = flat_grad(KL, params, create_graph=True)


def HVP(v):
    return flat_grad(d_kl @ v, params, retain_graph=True) + 0.1 * v


def conjugate_gradient(A, b, delta=0., max_iterations=10):
    x = torch.zeros_like(b)
    r = b.clone()
    p = b.clone()
    for i in range(max_iterations):
        AVP = A(p)
        dot_old = r @ r
        alpha = dot_old / (p @ AVP)
        x_new = x + alpha * p
        if (x - x_new).norm() <= delta:
            return x_new
        r = r - alpha * AVP
        beta = (r @ r) / dot_old
        p = r + beta * p
        x = x_new
    return x


search_dir = conjugate_gradient(HVP, g)
max_length = torch.sqrt(2 * 0.01 / (search_dir @ HVP(search_dir)))
step = max_length * search_dir
n = 0
for p in actor.parameters():
    numel = p.numel()
    p.data += step[n:n + numel].view(p.shape)
    n += numel
print(KL.item(), step.norm().item(), (torch.exp(Categorical(logits=actor(states)).log_prob(acts) - old) * adv).mean().item() > L.item())
m = MultivariateNormal(torch.zeros(2), torch.diag(torch.full((2,), 0.5)))
print(m.log_prob(torch.ones(2)), m.entropy(), Independent(Normal(torch.zeros(3), torch.ones(3)), 1).log_prob(torch.ones(3)), kl_divergence(Normal(0., 1.), Normal(1., 2.)))
