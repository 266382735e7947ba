"""A training as one writes it without a library: examples/own_loop.py is this file with an engine in it."""

import torch
from sklearn.datasets import load_digits
from torch import nn


images, labels = load_digits(return_X_y=True)
images, labels = torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(labels)
train_loader = list(zip(images[:1437].split(64), labels[:1437].split(64), strict=True))
valid_loader = list(zip(images[1437:].split(64), labels[1437:].split(64), strict=True))

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.3)

for _epoch in range(5):
    model.train()
    for inputs, targets in train_loader:
        optimizer.zero_grad()
        output = model(inputs)
        loss = loss_fn(output, targets)
        loss.backward()
        optimizer.step()

model.eval()
with torch.no_grad():
    right = sum((model(inputs).argmax(1) == targets).sum().item() for inputs, targets in valid_loader)
print(f"{right / 360:.1%} of 360 digits are recognised")
