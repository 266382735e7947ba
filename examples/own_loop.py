"""A training as one writes it, with an engine in it: examples/plain_script.py, changed in under ten lines."""

import torch
from sklearn.datasets import load_digits
from torch import nn

from engine import Engine, State, Trigger


images, labels = load_digits(return_X_y=True)
images, labels = torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(labels)
train_loader = list(zip(images[:1437].split(64), labels[:1437].split(64), strict=True))
valid_loader = list(zip(images[1437:].split(64), labels[1437:].split(64), strict=True))

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.3)

run = Engine(model, loss_fn, optimizer).start(epochs=5)
for _epoch in run.each_epoch():
    model.train()
    for inputs, targets in run.each_batch(train_loader):
        optimizer.zero_grad()
        output = model(inputs)
        run.report(Trigger.OUTPUT_READY, output=output)
        loss = loss_fn(output, targets)
        run.report(Trigger.LOSS_READY, loss=loss)
        loss.backward()
        if run.report(Trigger.GRADS_READY) is State.STEP:
            optimizer.step()
            run.report(Trigger.WEIGHTS_MOVED)

model.eval()
with torch.no_grad():
    right = sum((model(inputs).argmax(1) == targets).sum().item() for inputs, targets in valid_loader)
print(f"{right / 360:.1%} of 360 digits are recognised")
