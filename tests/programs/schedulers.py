"""Every common learning rate schedule, alone, chained and in sequence, with several parameter groups."""

import torch
from torch.optim import SGD, Adam
from torch.optim import lr_scheduler as S


def make(optimizer=SGD, **options):
    w = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    v = torch.nn.Parameter(torch.tensor([3.0]))
    groups = [{"params": [w]}, {"params": [v], "lr": 0.5}]
    return optimizer(groups, lr=0.1, **options)


zoo = {
    "step": lambda o: S.StepLR(o, 3, 0.5),
    "multistep": lambda o: S.MultiStepLR(o, milestones=[2, 5], gamma=0.1),
    "exponential": lambda o: S.ExponentialLR(o, 0.9),
    "cosine": lambda o: S.CosineAnnealingLR(o, T_max=6, eta_min=0.01),
    "restarts": lambda o: S.CosineAnnealingWarmRestarts(o, T_0=3, T_mult=2),
    "lambda": lambda o: S.LambdaLR(o, [lambda e: 0.95**e, lambda e: 1 / (1 + e)]),
    "multiplicative": lambda o: S.MultiplicativeLR(o, lambda e: 0.95),
    "constant": lambda o: S.ConstantLR(o, factor=0.5, total_iters=4),
    "linear": lambda o: S.LinearLR(o, start_factor=0.25, total_iters=4),
    "polynomial": lambda o: S.PolynomialLR(o, total_iters=6, power=2.0),
    "onecycle": lambda o: S.OneCycleLR(o, max_lr=[0.2, 0.7], total_steps=12),
    "cyclic": lambda o: S.CyclicLR(o, 0.01, 0.1, step_size_up=3, mode="triangular2", cycle_momentum=False),
    "sequential": lambda o: S.SequentialLR(o, [S.LinearLR(o, 0.1, total_iters=3), S.ExponentialLR(o, 0.8)], [3]),
    "chained": lambda o: S.ChainedScheduler([S.ConstantLR(o, 0.1, 2), S.ExponentialLR(o, 0.9)]),
}
for name, build in zoo.items():
    optimizer = make(momentum=0.9) if name != "lambda" else make(Adam)
    scheduler = build(optimizer)
    rates = []
    for epoch in range(10):
        optimizer.zero_grad()
        sum((p**2).sum() for g in optimizer.param_groups for p in g["params"]).backward()
        optimizer.step()
        rates.append([g["lr"] for g in optimizer.param_groups])
        scheduler.step()
    print(name, rates, optimizer.param_groups[0]["params"][0].tolist())
optimizer = make()
plateau = S.ReduceLROnPlateau(optimizer, "min", factor=0.5, patience=1, min_lr=[0.01, 0.1])
for value in [1.0, 0.9, 0.95, 0.96, 0.97, 0.8, 0.85, 0.9, 0.9]:
    plateau.step(value)
    print(plateau.get_last_lr())
state = plateau.state_dict()
plateau.load_state_dict(state)
assert plateau.best == 0.8
