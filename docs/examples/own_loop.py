"""A training loop of your own on a label set: run as `python own_loop.py LABELS IMAGES EVAL [EPOCHS]`."""

import sys

import torch
from torch.utils.data import DataLoader

from lpqld import ImageSet, LabelSet, ViewDataset, ViewSampler
from lpqld.models import build
from lpqld.training import parse_schedule

labels, images = LabelSet.open(sys.argv[1]), ImageSet.open(sys.argv[2])
test = ImageSet.open(sys.argv[3], class_names=images.class_names)
num_epochs = int(sys.argv[4]) if len(sys.argv) > 4 else 100

data = ViewDataset(images, labels)
loader = DataLoader(data, sampler=ViewSampler(data, batch_size=100), batch_size=None)
temperature = parse_schedule("20:2:step", num_epochs)

torch.manual_seed(0)
student = build("convnet", images.num_classes)
optimizer = torch.optim.AdamW(student.parameters(), lr=2e-3)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_epochs)
for epoch in range(num_epochs):
    for batch in loader:
        log_predictions = (student(batch.views) / 2).log_softmax(1)
        loss = -(batch.targets(temperature(epoch)) * log_predictions).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    schedule.step()

student.eval()
with torch.inference_mode():
    correct = student(test.pixels / 255).argmax(1) == test.labels
print(f"accuracy {correct.float().mean():.4f}")
